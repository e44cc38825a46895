"""`POST /v1/chat/completions` through a real server, a real socket and a real ledger."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2
import orjson
import pytest

from experts.base import Expert
from experts.fakes.provider import FakeProvider, Reply, fake_provider

Serve = Callable[..., Any]
Remote = Callable[..., Expert]


def lines(answer: httpx2.Response) -> list[str]:
    return [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]


def chunks(answer: httpx2.Response) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in lines(answer) if line != "[DONE]"]


def test_a_whole_answer_says_who_and_what_it_cost(one: Any) -> None:
    answer = one.ask("small")
    body = answer.json()
    assert answer.status_code == 200
    assert body["model"] == answer.headers["x-pointsman-expert"] == "small"
    assert body["choices"][0]["message"] == {"role": "assistant", "content": "Hello there"}
    assert body["usage"]["total_tokens"] == 12
    assert float(answer.headers["x-pointsman-cost-usd"]) == pytest.approx(14e-6)
    assert answer.headers["x-pointsman-attempts"] == "1"


def test_streamed_and_whole_answers_book_the_same(one: Any) -> None:
    whole, streamed = one.ask("small"), one.ask("small", stream=True)
    text = "".join(
        choice["delta"].get("content") or ""
        for chunk in chunks(streamed)
        for choice in chunk["choices"]
    )
    assert text == whole.json()["choices"][0]["message"]["content"]
    left, right = one.record(whole), one.record(streamed)
    assert left["result"]["cost_nanousd"] == right["result"]["cost_nanousd"] == 14_000
    assert left["result"]["answer"] == right["result"]["answer"]
    counted = [
        {k: v for k, v in r["attempts"][0].items() if k.endswith("_tokens")} for r in (left, right)
    ]
    assert counted[0] == counted[1]


def test_a_stream_ends_with_done_and_usage_only_if_asked(one: Any) -> None:
    plain = one.ask("small", stream=True)
    asked = one.ask("small", stream=True, stream_options={"include_usage": True})
    assert lines(plain)[-1] == lines(asked)[-1] == "[DONE]"
    assert not any("usage" in chunk for chunk in chunks(plain))
    last = chunks(asked)[-1]
    assert last["choices"] == []
    assert last["usage"]["prompt_tokens"] == 10
    assert last["usage"]["cost_usd"] == pytest.approx(14e-6)
    assert chunks(plain)[0]["choices"][0]["delta"]["role"] == "assistant"


def test_what_we_do_not_know_passes_through_and_what_is_ours_does_not(
    one: Any, provider: FakeProvider
) -> None:
    one.ask("small", top_k=5, pointsman={"tags": {"a": "b"}, "session": "s"})
    assert provider.bodies[0]["top_k"] == 5
    assert "pointsman" not in provider.bodies[0]


def test_tags_and_session_are_booked(one: Any) -> None:
    answer = one.ask("small", pointsman={"tags": {"team": "x"}, "session": "s1"})
    asked = one.record(answer)["request"]
    assert (asked["tags"], asked["session"]) == ({"team": "x"}, "s1")


def test_wishes_may_come_as_headers(one: Any) -> None:
    body = {"model": "small", "messages": [{"role": "user", "content": "Hi"}]}
    headers = {"x-pointsman-tags": "team=y", "x-pointsman-session": "s2"}
    answer = one.client.post("/v1/chat/completions", json=body, headers=headers)
    asked = one.record(answer)["request"]
    assert (asked["tags"], asked["session"]) == ({"team": "y"}, "s2")


@pytest.mark.parametrize(
    ("content", "param"),
    [
        (b"", None),
        (b"{", None),
        (b"[]", None),
        (b"{}", "model"),
        (b'{"model":"small"}', "messages"),
        (b'{"model":"small","messages":[]}', "messages"),
        (b'{"model":"small","messages":[{"role":"king","content":"x"}]}', "messages[0].role"),
        (b'{"model":"small","messages":[{"role":"user","content":7}]}', "messages[0].content"),
        (b'{"model":"small","messages":["x"]}', "messages[0]"),
        (
            b'{"model":"small","messages":[{"role":"assistant","tool_calls":7}]}',
            "messages[0].tool_calls",
        ),
        (
            b'{"model":"small","messages":[{"role":"assistant","tool_calls":["x"]}]}',
            "messages[0].tool_calls",
        ),
        (
            b'{"model":"small","messages":[{"role":"user","content":"x"}],'
            b'"response_format":{"type":"json_schema","json_schema":true}}',
            "response_format.json_schema",
        ),
        (b'{"model":"small","messages":[{"role":"user"}]}', "messages[0].content"),
        (b'{"model":"small","messages":[{"role":"system","content":[]}]}', "messages[0].content"),
        (
            b'{"model":"small","messages":[{"role":"user","content":[{"type":"text"}]}]}',
            "messages[0].content[0].text",
        ),
        (b'{"model":"small","messages":[{"role":"user","content":"x"}],"stream":1}', "stream"),
        (
            b'{"model":"small","messages":[{"role":"user","content":"x"}],"max_tokens":0}',
            "max_tokens",
        ),
        (b'{"model":"small","messages":[{"role":"user","content":"x"}],"n":0}', "n"),
        (b'{"model":"small","messages":[{"role":"user","content":"x"}],"tools":{}}', "tools"),
        (b'{"model":"small","messages":[{"role":"user","content":"x"}],"stop":5}', "stop"),
        (b'{"model":"small","messages":[{"role":"user","content":"x"}],"tools":[{}]}', "tools[0]"),
        (
            b'{"model":"small","messages":[{"role":"user","content":"x"}],'
            b'"tools":[{"type":"function","name":"f"}]}',
            "tools[0].function",
        ),
        (
            b'{"model":"small","messages":[{"role":"user","content":"x"}],'
            b'"tools":[{"type":"function","function":{"name":""}}]}',
            "tools[0].function.name",
        ),
        (
            b'{"model":"small","messages":[{"role":"user","content":"x"}],'
            b'"tools":[{"type":"custom","custom":{}}]}',
            "tools[0].custom.name",
        ),
        (
            b'{"model":"small","messages":[{"role":"user","content":"x"}],"functions":[{"a":1}]}',
            "functions[0].name",
        ),
        (
            b'{"model":"small","messages":[{"role":"user","content":"x"}],"api_base":"http://x"}',
            "api_base",
        ),
        (
            b'{"model":"small","messages":[{"role":"user","content":"x"}],'
            b'"pointsman":{"max_cost_usd":-1}}',
            "pointsman.max_cost_usd",
        ),
        (
            b'{"model":"small","messages":[{"role":"user","content":"x"}],"pointsman":{"polcy":1}}',
            "pointsman.polcy",
        ),
    ],
)
def test_a_bad_body_is_400_and_names_its_field(
    one: Any, provider: FakeProvider, content: bytes, param: str | None
) -> None:
    answer = one.client.post("/v1/chat/completions", content=content)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert provider.bodies == []
    assert one.totals()["requests"] == 0


def test_an_unknown_model_is_404(one: Any) -> None:
    answer = one.ask("gpt-99")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"


def test_a_body_that_is_too_long_is_413(
    serve: Serve, remote: Remote, provider: FakeProvider
) -> None:
    served = serve({"small": remote("small", provider.url)}, limits={"max_body_bytes": 2000})
    assert served.ask("small", "x" * 3000).status_code == 413
    assert served.ask("small", "x").status_code == 200


def test_a_missing_or_wrong_key_is_401_everywhere(
    serve: Serve, remote: Remote, provider: FakeProvider
) -> None:
    keys = [
        {"name": "team", "key": "team-key-1", "admin": False},
        {"name": "boss", "key": "boss-key-1", "admin": True},
    ]
    served = serve({"small": remote("small", provider.url)}, keys=keys)
    for method, path in (
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/route"),
        ("POST", "/v1/feedback"),
        ("GET", "/v1/models"),
        ("GET", "/v1/decisions/x"),
        ("GET", "/admin/routers"),
        ("GET", "/"),
    ):
        for headers in ({}, {"authorization": "Bearer wrong-key"}):
            assert served.client.request(method, path, headers=headers).status_code == 401, path
    assert provider.bodies == []
    team, boss = ({"authorization": f"Bearer {key['key']}"} for key in keys)
    body = {"model": "small", "messages": [{"role": "user", "content": "Hi"}]}
    answer = served.client.post("/v1/chat/completions", json=body, headers=team)
    assert answer.status_code == 200
    assert served.client.get("/admin/routers", headers=team).status_code == 403
    assert served.client.get("/admin/routers", headers=boss).status_code == 200
    assert served.client.get("/", headers=team).status_code == 403
    assert served.client.get("/health/live").status_code == 200
    path = f"/v1/decisions/{answer.headers['x-pointsman-decision-id']}"
    seen = [served.client.get(path, headers=headers).status_code for headers in (team, boss)]
    assert seen == [200, 200]


def test_a_decision_is_nobody_elses_affair(
    serve: Serve, remote: Remote, provider: FakeProvider
) -> None:
    keys = [{"name": name, "key": f"{name}-key-1"} for name in ("red", "blue")]
    served = serve({"small": remote("small", provider.url)}, keys=keys)
    red, blue = ({"authorization": f"Bearer {key['key']}"} for key in keys)
    body = {"model": "small", "messages": [{"role": "user", "content": "secret"}]}
    answer = served.client.post("/v1/chat/completions", json=body, headers=red)
    decision_id = answer.headers["x-pointsman-decision-id"]
    assert served.client.get(f"/v1/decisions/{decision_id}", headers=red).status_code == 200
    assert served.client.get(f"/v1/decisions/{decision_id}", headers=blue).status_code == 404
    score = {"decision_id": decision_id, "score": 0}
    assert served.client.post("/v1/feedback", json=score, headers=blue).status_code == 404
    assert served.client.post("/v1/feedback", json=score, headers=red).status_code == 200


def test_a_host_header_opens_nothing(serve: Serve, remote: Remote, provider: FakeProvider) -> None:
    keys = [{"name": "team", "key": "team-key-1"}]
    served = serve({"small": remote("small", provider.url)}, keys=keys)
    for host in ("x/health/live?", "127.0.0.1/metrics#", "/health/live"):
        answer = served.client.get("/v1/models", headers={"host": host})
        assert answer.status_code in (400, 401)


def test_debug_headers_are_for_admins_who_ask(one: Any) -> None:
    body = {"model": "small", "messages": [{"role": "user", "content": "Hi"}]}
    asked = one.client.post(
        "/v1/chat/completions", json=body, headers={"x-pointsman-debug": "true"}
    )
    assert asked.headers["x-pointsman-propensity"] == "1"
    assert "x-pointsman-propensity" not in one.ask("small").headers


def test_tool_calls_reach_the_client(one: Any, provider: FakeProvider) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    provider.otherwise = Reply("", tool_calls=(call,), finish="tool_calls")
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    choice = one.ask("small", tools=tools).json()["choices"][0]
    assert choice["message"]["tool_calls"] == [call]
    assert choice["message"]["content"] is None
    assert choice["finish_reason"] == "tool_calls"


def test_an_answer_without_usage_is_counted_and_said_to_be_estimated(
    one: Any, provider: FakeProvider
) -> None:
    provider.otherwise = Reply("four words are here", usage=None)
    answer = one.ask("small", "What is it?")
    attempt = one.record(answer)["attempts"][0]
    assert attempt["tokens_estimated"] is True
    assert attempt["output_tokens"] >= 4
    assert attempt["cost_nanousd"] > 0


def test_an_expert_of_unknown_price_is_never_free(serve: Serve, provider: FakeProvider) -> None:
    from experts.cards import ExpertCard
    from experts.http.openai_compatible import OpenAICompatibleExpert

    served = serve({"odd": OpenAICompatibleExpert(ExpertCard("odd"), provider.url, "m")})
    answer = served.ask("odd")
    assert answer.headers["x-pointsman-cost-usd"] == "unknown"
    assert served.totals()["unpriced"] == 1
    capped = served.ask("odd", pointsman={"max_cost_usd": 1})
    assert capped.status_code == 400
    assert capped.json()["error"]["code"] == "no_eligible_expert"


def test_everything_that_was_asked_verifies(one: Any, provider: FakeProvider) -> None:
    provider.script.extend([Reply(), Reply(status=500), Reply("a b", cut_after=1), Reply()])
    for stream in (False, True, True, True):
        one.ask("small", stream=stream)
    verdict = one.verified()
    assert verdict.faults == ()
    assert verdict.open_attempts == 0
    assert verdict.rows["request"] == 4


def test_two_providers_share_nothing(serve: Serve, remote: Remote, provider: FakeProvider) -> None:
    with fake_provider() as other:
        other.otherwise = Reply("from the other")
        served = serve({"a": remote("a", provider.url), "b": remote("b", other.url)})
        assert served.ask("b").json()["choices"][0]["message"]["content"] == "from the other"
        assert provider.bodies == []


def test_a_body_nested_too_deep_is_told_so(one: Any) -> None:
    content = b'{"model":"small","messages":' + b"[" * 300 + b"]" * 300 + b"}"
    answer = one.client.post("/v1/chat/completions", content=content)
    assert answer.json()["error"]["message"] == "the body is nested too deep"
