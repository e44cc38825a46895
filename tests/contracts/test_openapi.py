"""Our own OpenAPI document is true: whatever is sent, the answer is one that it names.

Schemathesis makes requests of the document, those it allows and those it doesn't, and holds the
answers against it: status, type, body, headers. No request may end in a 5xx.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from experts.fakes.anthropic import fake_anthropic
from experts.fakes.provider import fake_provider
from gateway.api.described.interface import DESCRIBED
from gateway.api.reference import DescribedApp
from gateway.api.routes import add_routes
from gateway.api.routing import MethodRoute
from gateway.engines.local import local_engines
from gateway.running import background_server, launched, serving_app
from gateway.settings.load import load_configuration

EXAMPLES = 20
MODELS = {"POST /v1/completions": ["continues", "chats"], "POST /v1/embeddings": ["embeds", "auto"]}
CHATTING = ["auto", "auto:best", "chats", "claude"]
ADMIN = {"authorization": "Bearer admin-key-1"}
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


def all_routes() -> DescribedApp:
    app = DescribedApp()
    add_routes(app)
    return app


def document() -> dict[str, Any]:
    return all_routes().openapi()


DOCUMENT = document()
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
FOUND = list(SCHEMA.get_all_operations())
OPERATIONS = {each.ok().label: each.ok() for each in FOUND if isinstance(each, Ok)}
CASES = [
    (label, mode)
    for label, operation in OPERATIONS.items()
    for mode in schemathesis.GenerationMode
    # Of a request without body and parameters nothing can be wrong.
    if mode is schemathesis.GenerationMode.POSITIVE or operation.body or operation.query
]
NEVER_SERVED_HERE = {
    "POST /admin/routers/{name}/promote",
    "POST /admin/routers/{name}/rollback",
    "POST /admin/config/rollback",
    "POST /admin/experts/{expert_id}/start",
    "POST /admin/experts/{expert_id}/sleep",
    "POST /admin/experts/{expert_id}/wake",
    "POST /admin/experts/{expert_id}/stop",
}
"""No router was trained, no other configuration served, and no engine is ours."""


def test_every_route_is_described_but_those_that_describe() -> None:
    routes = (each for each in all_routes().routes if isinstance(each, MethodRoute))
    served = {f"{each.method} {each.path_format}" for each in routes}
    assert set(DESCRIBED) <= served
    untold = {name for name in served - set(DESCRIBED) if not name.startswith("HEAD ")}
    assert untold == {"GET /docs", "GET /openapi.json"}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A gateway over experts of all kinds."""
    folder = tmp_path_factory.mktemp("openapi")
    path = folder / "c.yaml"
    prices = {"prices": {"input": 1, "output": 2}}
    able = {"tools": True, "structured_output": True}
    with ExitStack() as stack:
        openai = stack.enter_context(fake_provider())
        claude = stack.enter_context(fake_anthropic())
        experts = [
            {"id": "chats", "base_url": openai.url, **able, **prices},
            {"id": "claude", "kind": "anthropic", "base_url": claude.url, **able, **prices},
            {"id": "continues", "base_url": openai.url, "api": "completions", **prices},
            {"id": "embeds", "base_url": openai.url, "api": "embeddings", **prices},
        ]
        keys = [{"name": "root", "key": "admin-key-1", "admin": True}]
        ledger = {"url": f"sqlite:///{folder}/ledger.db"}
        sections = {"ledger": ledger, "data_dir": str(folder), "experts": experts, "keys": keys}
        path.write_text(json.dumps(sections))
        configuration = load_configuration(path)
        engines = stack.enter_context(local_engines(configuration.settings))
        app = serving_app(stack.enter_context(launched(path, configuration, engines, {}, None)))
        yield stack.enter_context(background_server(app))


@pytest.fixture
def known(url: str) -> dict[str, list[str]]:
    """Names that exist, by parameter."""
    with httpx2.Client(base_url=url, headers=ADMIN, timeout=60, trust_env=False) as client:
        kept = client.post("/v1/responses", json={"model": "chats", "input": "Hi"})
        client.post("/admin/keys", json={"name": "team"})
    decision_id, response_id = kept.headers["x-pointsman-decision-id"], kept.json()["id"]
    return {
        "decision_id": [decision_id],
        "inference_id": [decision_id],
        "response_id": [response_id],
        "previous_response_id": [response_id],
        "name": ["team", "auto", "default"],
    }


def with_known(case: Any, known: dict[str, list[str]], data: st.DataObject) -> None:
    """Mostly a name that exists in place of one that was made up."""
    for place in (case.path_parameters, case.body):
        for name in known if isinstance(place, dict) else ():
            if name in place and data.draw(st.integers(0, 4), label=f"a {name} made up") < 4:
                place[name] = data.draw(st.sampled_from(known[name]), label=name)
    wishes = case.body.get("pointsman") if isinstance(case.body, dict) else None
    if isinstance(wishes, dict):
        # Nobody answers within nanoseconds: a 504 that is meant to be.
        wishes.pop("max_latency_ms", None)


@pytest.mark.parametrize(("label", "mode"), CASES, ids=lambda case: getattr(case, "value", case))
def test_every_answer_is_one_that_the_document_names(
    url: str, known: dict[str, list[str]], label: str, mode: schemathesis.GenerationMode
) -> None:
    statuses: Counter[int] = Counter()

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=OPERATIONS[label].as_strategy(mode), data=st.data())
    def asked(case: Any, data: st.DataObject) -> None:
        names = {**known, "model": MODELS.get(label, CHATTING)}
        if label == "POST /admin/keys":
            # A new key is refused a name that there is.
            del names["name"]
        with_known(case, names, data)
        answer = case.call_and_validate(base_url=url, headers=ADMIN, checks=CHECKS)
        statuses[answer.status_code] += 1

    asked()
    if mode is schemathesis.GenerationMode.POSITIVE:
        assert label in NEVER_SERVED_HERE or any(status < 300 for status in statuses)


@pytest.mark.parametrize("label", OPERATIONS)
def test_without_a_key_nothing_is_served_but_health(url: str, label: str) -> None:
    method, path = label.split(" ")
    with httpx2.Client(base_url=url, timeout=60, trust_env=False) as client:
        answer = client.request(method, path, headers={"authorization": "Bearer of nothing"})
    assert answer.status_code == (200 if path.startswith("/health/") else 401)


@pytest.mark.parametrize("label", OPERATIONS)
def test_every_route_says_what_it_answers(label: str) -> None:
    method, path = label.split(" ")
    described = DOCUMENT["paths"][path][method.lower()]
    served = [answer for status, answer in described["responses"].items() if status[0] == "2"]
    assert served, "use gateway.api.described"
    for answer in served:
        assert all(content["schema"] for content in answer["content"].values())


def test_the_document_is_served_and_names_every_route_of_the_contract(url: str) -> None:
    with httpx2.Client(base_url=url, headers=ADMIN, timeout=60, trust_env=False) as client:
        served = client.get("/openapi.json").json()
    assert served["paths"].keys() == DOCUMENT["paths"].keys()
    assert len(OPERATIONS) == len(FOUND)
    assert {
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/responses",
        "/v1/embeddings",
        "/v1/models",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/v1/responses/input_tokens",
        "/v1/route",
        "/v1/feedback",
        "/v1/decisions/{decision_id}",
        "/health/live",
        "/health/ready",
        "/metrics",
        "/",
    } <= served["paths"].keys()
