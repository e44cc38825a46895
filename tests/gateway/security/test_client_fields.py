"""Whatever a client writes, it does not choose where a call goes, as whom, or what it makes run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from experts.base import Expert
from experts.fakes.provider import FakeProvider, Reply, fake_provider
from tests.conftest import Serve, Served

Remote = Callable[..., Expert]
KEYS = [{"name": "team", "key": "team-key-1"}]
TEAM = {"authorization": "Bearer team-key-1"}
SAID = [{"role": "user", "content": "Hi"}]
FRONTS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": SAID},
    "/v1/messages": {"messages": SAID, "max_tokens": 5},
    "/v1/responses": {"input": "Hi", "store": False},
    "/v1/completions": {"prompt": "Hi"},
    "/v1/embeddings": {"input": "Hi"},
    "/v1/route": {"messages": SAID},
}


@pytest.fixture
def thief() -> Iterator[FakeProvider]:
    """Where an attacker would like calls, and the keys that go with them, to go."""
    with fake_provider() as running:
        yield running


@pytest.fixture
def served(serve: Serve, remote: Remote, provider: FakeProvider) -> Served:
    experts = {
        "a": remote("a", provider.url),
        "vectors": remote("vectors", provider.url, api="embeddings"),
    }
    return serve(experts, keys=KEYS)


def ask(served: Served, path: str, headers: dict[str, str] | None = None, **more: Any) -> Any:
    model = "vectors" if path == "/v1/embeddings" else "a"
    body = {"model": model, **FRONTS[path], **more}
    return served.client.post(path, json=body, headers={**TEAM, **(headers or {})})


OPERATORS = (
    *("api_base", "base_url", "api_key", "api_version", "custom_host", "custom_llm_provider"),
    *("extra_headers", "mock_response", "mock_tool_calls", "mock_testing_fallbacks"),
    *("aws_bedrock_runtime_endpoint", "azure_ad_token", "vertex_credentials"),
)


@pytest.mark.parametrize("path", FRONTS)
def test_fields_of_the_operator_are_refused(
    served: Served, provider: FakeProvider, thief: FakeProvider, path: str
) -> None:
    for name in OPERATORS:
        field: dict[str, Any] = {name: thief.url}
        answer = ask(served, path, **field)
        assert answer.status_code == 400
        assert f"{name}: is not accepted from clients" in answer.json()["error"]["message"]
    assert provider.bodies == thief.bodies == []


HIDING: tuple[dict[str, Any], ...] = (
    {"extra_body": {"api_base": "http://thief"}},
    {"extra_body": {"litellm_params": {"api_base": "http://thief"}}},
    {"litellm_params": {"mock_response": "x"}},
    {"pointsman": {"base_url": "http://thief"}},
    {"pointsman": {"experts": ["a"], "api_key": "x"}},
)


def test_nor_do_they_hide_in_other_fields(served: Served, provider: FakeProvider) -> None:
    for more in HIDING:
        for path in FRONTS:
            assert ask(served, path, **more).status_code == 400, (path, more)
    deep: dict[str, Any] = {"api_base": "http://thief"}
    for _ in range(500):
        deep = {"x": deep}
    assert ask(served, "/v1/chat/completions", extra_body=deep).status_code == 400
    assert provider.bodies == []


@pytest.mark.parametrize(
    "headers",
    [
        {"x-portkey-custom-host": "THIEF", "x-portkey-provider": "openai"},
        {"x-portkey-config": '{"custom_host":"THIEF"}'},
        {"x-litellm-api-base": "THIEF", "x-litellm-api-key": "x"},
        {"openai-base-url": "THIEF", "openai-organization": "org-1"},
        {"host": "THIEF", "x-forwarded-host": "THIEF", "x-original-url": "/admin/config"},
        {"api-key": "x", "x-api-base": "THIEF", "x-vsr-looper-request": "true"},
        {"x-authz-user-id": "root", "x-vsr-skip-auth": "1", "cookie": "session=root"},
    ],
    ids=lambda headers: next(iter(headers)),
)
def test_headers_and_query_change_neither_the_way_nor_what_is_sent(
    served: Served, provider: FakeProvider, thief: FakeProvider, headers: dict[str, str]
) -> None:
    given = {name: value.replace("THIEF", thief.url[7:-3]) for name, value in headers.items()}
    path = "/v1/chat/completions"
    body = {"model": "a", **FRONTS[path], "metadata": {"api_base": thief.url}}
    query = {"api_base": thief.url, "model": "b", "api_key": "x", "mock_response": "y"}
    answer = served.client.post(path, params=query, json=body, headers={**TEAM, **given})
    assert answer.status_code == 200
    assert thief.bodies == []
    assert provider.paths == [path]
    # Every header of the call is ours. Nothing that came in goes on, a key least of all.
    assert set(provider.headers[0]) <= {
        *("host", "accept", "accept-encoding", "connection", "user-agent"),
        *("content-type", "content-length"),
    }
    assert provider.headers[0]["host"] == f"127.0.0.1:{provider.port}"
    assert provider.bodies[0]["model"] == "m"


@pytest.mark.parametrize("name", ["x-pointsman-role", "x-pointsman-key", "x-pointsman-expert"])
def test_internal_headers_that_are_no_wish_are_refused(
    served: Served, provider: FakeProvider, name: str
) -> None:
    answer = ask(served, "/v1/chat/completions", headers={name: "admin"})
    assert answer.status_code == 400
    assert provider.bodies == []


def test_debugging_is_for_admins(serve: Serve, remote: Remote, provider: FakeProvider) -> None:
    keys = [*KEYS, {"name": "root", "key": "root-key-1", "role": "admin"}]
    served = serve({"a": remote("a", provider.url)}, keys=keys)
    debug = {"x-pointsman-debug": "true"}
    path = "/v1/chat/completions"
    assert "x-pointsman-policy" not in ask(served, path, debug).headers
    root = {**debug, "authorization": "Bearer root-key-1"}
    assert "x-pointsman-policy" in ask(served, path, root).headers


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_no_header_of_a_provider_comes_through(
    served: Served, provider: FakeProvider, stream: bool
) -> None:
    said = {"set-cookie": "a=1", "authorization": "Bearer x", "x-internal": "10.0.0.5"}
    asked = "/v1/chat/completions"
    usual = set(ask(served, asked, stream=stream).headers)
    provider.otherwise = Reply(headers=said)
    assert set(ask(served, asked, stream=stream).headers) == usual
    provider.otherwise = Reply(status=401, headers={**said, "www-authenticate": "Bearer"})
    refused = ask(served, asked, stream=stream)
    assert refused.status_code == 502
    assert not {"www-authenticate", *said} & set(refused.headers)


POWERS: list[tuple[str, dict[str, Any]]] = [
    ("chat_template", {"chat_template": "{{ cycler.__init__.__globals__ }}"}),
    ("chat_template_kwargs.chat_template", {"chat_template_kwargs": {"chat_template": "{{ 1 }}"}}),
    ("chat_template_kwargs.tokenize", {"chat_template_kwargs": {"tokenize": True}}),
    ("custom_logit_processor", {"custom_logit_processor": "gASV"}),
    ("logits_processors", {"logits_processors": [{"qualname": "os.system"}]}),
    ("kv_transfer_params", {"kv_transfer_params": {"remote_host": "10.0.0.1"}}),
    ("bootstrap_host", {"bootstrap_host": "10.0.0.1"}),
    ("lora_path", {"lora_path": "/etc"}),
]


@pytest.mark.parametrize("model", ["a", "auto"])
def test_a_client_makes_no_expert_run_or_fetch_what_it_brings(
    serve: Serve, remote: Remote, provider: FakeProvider, model: str
) -> None:
    served = serve({"a": remote("a", provider.url)})
    for param, fields in POWERS:
        refused = served.ask(model, **fields)
        assert refused.status_code == 400
        assert param in refused.json()["error"]["message"]
        if model == "a":
            assert refused.json()["error"]["param"] == param
    assert provider.bodies == []


def test_what_the_operator_allows_by_name_goes_through(
    serve: Serve, remote: Remote, provider: FakeProvider
) -> None:
    allowed = frozenset({"chat_template"})
    experts = {
        "a": remote("a", provider.url, params_allow=allowed),
        "drops": remote("drops", provider.url, params="drop"),
        "kwargs": remote(
            "kwargs", provider.url, params="drop", params_allow=frozenset({"chat_template_kwargs"})
        ),
    }
    served = serve(experts)
    harmless: dict[str, Any] = {"chat_template_kwargs": {"enable_thinking": False}}
    assert served.ask("a", chat_template="{{ x }}", **harmless).status_code == 200
    assert provider.bodies[-1]["chat_template"] == "{{ x }}"
    assert provider.bodies[-1]["chat_template_kwargs"] == harmless["chat_template_kwargs"]
    assert served.ask("drops", chat_template="{{ x }}").status_code == 200
    assert "chat_template" not in provider.bodies[-1]
    assert served.ask("kwargs", **harmless).status_code == 200
    hidden: dict[str, Any] = {"chat_template_kwargs": {"chat_template": "{{ x }}"}}
    assert served.ask("kwargs", **hidden).status_code == 400


def test_names_of_dropped_fields_are_fit_for_a_header(
    serve: Serve, remote: Remote, provider: FakeProvider
) -> None:
    served = serve({"drops": remote("drops", provider.url, params="drop")})
    for name, shown in (
        ("x\r\nset-cookie: a=b", "x%0D%0Aset-cookie:%20a%3Db"),
        ("a\x00b", "a%00b"),
        ("名", "%E5%90%8D"),
        ("ü,top_k", "%C3%BC%2Ctop_k"),
        ("tools[0].x", "tools[0].x"),
    ):
        odd: dict[str, Any] = {name: 1}
        answer = served.ask("drops", **odd)
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-pointsman-dropped-params"] == shown
        assert "set-cookie" not in answer.headers
    fields: dict[str, Any] = {f"{'x' * 100}{index}": 1 for index in range(2_000)}
    many = served.ask("drops", **fields)
    assert len(many.headers["x-pointsman-dropped-params"]) < 3_000
    assert many.headers["x-pointsman-dropped-params"].endswith(",...")


def test_a_form_is_no_body(served: Served, provider: FakeProvider) -> None:
    path = "/v1/chat/completions"
    boundary = {**TEAM, "content-type": "multipart/form-data; boundary=" + "-" * 1_000}
    client = served.client
    for answer in (
        client.post(path, headers=TEAM, files={"model": ("a.json", b"{}")}),
        client.post(path, headers=TEAM, data={"model": "a", "messages": "x"}),
        client.post(path, headers=boundary, content=b"-" * 100_000),
    ):
        assert answer.status_code == 400
        assert "JSON" in answer.json()["error"]["message"]
    assert provider.bodies == []
