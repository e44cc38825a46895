"""Nobody passes without a key, and a key's secret is seen nowhere, in the real application."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from starlette.routing import Route

from experts.base import Expert
from experts.cards import Prices
from experts.fakes.provider import FakeProvider, Reply
from gateway.access.gate import AuthenticationMiddleware
from gateway.app import create_app

Serve = Callable[..., Any]
Remote = Callable[..., Expert]
KEYS = [
    {"name": "root", "key": "root-key-1", "role": "admin"},
    {"name": "boss", "key": "boss-key-1", "role": "manager", "experts": ["small*"]},
    {"name": "team", "key": "team-key-1"},
]
OPEN = {"/health/live", "/health/ready"}


def header(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


@pytest.fixture
def served(serve: Serve, remote: Remote, provider: FakeProvider) -> Any:
    experts = {
        "small": remote("small", provider.url, quality_prior=0.3),
        "small-2": remote("small-2", provider.url, quality_prior=0.4),
        "large": remote("large", provider.url, Prices(1, 1), quality_prior=0.9),
    }
    return serve(experts, keys=KEYS, aliases={"big": "large"})


def chat(served: Any, secret: str, model: str = "small", **fields: Any) -> httpx2.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], **fields}
    sent: httpx2.Response = served.client.post(
        "/v1/chat/completions", json=body, headers=header(secret)
    )
    return sent


def routes(app: Any) -> Iterator[tuple[str, str]]:
    for route in app.routes:
        assert isinstance(route, Route), f"{route} is of a kind that this test does not know"
        for method in route.methods or {"GET"}:
            yield method, re.sub(r"{[^}]+}", "x", route.path)


def test_every_route_wants_a_key_but_those_listed_here(served: Any) -> None:
    asked = list(routes(create_app(served.gateway)))
    assert len(asked) > 15
    for method, path in [*asked, ("GET", "/nothing/here"), ("POST", "/v1/nothing")]:
        status = served.client.request(method, path).status_code
        if path in OPEN:
            assert status in (200, 405), path
        else:
            assert status == 401, path


def test_metrics_are_open_only_where_that_is_configured(
    serve: Serve, remote: Remote, provider: FakeProvider
) -> None:
    served = serve(
        {"small": remote("small", provider.url)}, keys=KEYS, access={"open_metrics": True}
    )
    assert served.client.get("/metrics").status_code == 200
    assert served.client.get("/metrics/").status_code == 401


@pytest.mark.parametrize(
    "path", ["//health/live", "/health/live/", "/health/../v1/models", "/HEALTH/live"]
)
def test_a_path_that_looks_open_is_not(served: Any, path: str) -> None:
    assert served.client.get(path).status_code == 401


@pytest.mark.anyio
async def test_no_websocket_gets_through() -> None:
    async def never(*_: object) -> Any:
        raise AssertionError("asked all the same")

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await AuthenticationMiddleware(never, never)({"type": "websocket"}, never, send)
    assert sent == [{"type": "websocket.close", "code": 1008}]


def test_a_key_that_may_not_use_an_expert_gets_403_by_name_and_others_by_auto(
    served: Any,
) -> None:
    assert chat(served, "boss-key-1", "small").status_code == 200
    for model in ("large", "big"):
        refused = chat(served, "boss-key-1", model)
        assert refused.status_code == 403
        assert refused.json()["error"]["code"] == "expert_forbidden"
    assert chat(served, "team-key-1", "auto:best").headers["x-pointsman-expert"] == "large"
    chosen = {chat(served, "boss-key-1", "auto:best").headers["x-pointsman-expert"]}
    assert chosen <= {"small", "small-2"}
    wished = chat(served, "boss-key-1", "auto", pointsman={"experts": ["large"]})
    assert wished.status_code == 400
    assert "not among the experts allowed" in wished.json()["error"]["message"]


def test_models_lists_what_the_key_may_use_and_nothing_else(served: Any) -> None:
    listed = served.client.get("/v1/models", headers=header("boss-key-1")).json()["data"]
    names = {model["id"] for model in listed}
    assert {"auto", "small", "small-2"} <= names
    assert names.isdisjoint({"large", "big"})
    assert served.client.get("/v1/models/large", headers=header("boss-key-1")).status_code == 404
    assert served.client.get("/v1/models/large", headers=header("team-key-1")).status_code == 200


def test_a_key_of_one_policy_may_not_choose_another(
    serve: Serve, remote: Remote, provider: FakeProvider
) -> None:
    keys = [{"name": "thrifty", "key": "thrifty-key-1", "policies": ["cheap"]}]
    served = serve({"small": remote("small", provider.url)}, keys=keys)
    assert chat(served, "thrifty-key-1", "auto:cheap").status_code == 200
    for model in ("auto", "auto:best", "router-default-0.0"):
        assert chat(served, "thrifty-key-1", model).json()["error"]["code"] == "policy_forbidden"
    listed = served.client.get("/v1/models", headers=header("thrifty-key-1")).json()["data"]
    assert "auto:cheap" in {model["id"] for model in listed}
    assert "auto:best" not in {model["id"] for model in listed}


def test_a_key_is_made_used_rotated_and_revoked_over_http(served: Any) -> None:
    boss = header("boss-key-1")
    made = served.client.post(
        "/admin/keys", headers=boss, json={"name": "intern", "expires_in_s": 3600}
    )
    assert made.status_code == 201
    assert made.headers["cache-control"] == "no-store"
    assert made.json()["experts"] == ["small*"]
    first = made.json()["key"]
    assert chat(served, first).status_code == 200
    assert chat(served, first, "large").status_code == 403
    rotated = served.client.post("/admin/keys/intern/rotate", headers=boss, json={"grace_s": 60})
    assert chat(served, first).status_code == chat(served, rotated.json()["key"]).status_code == 200
    assert served.client.post("/admin/keys/intern/rotate", headers=boss, json={"grace_s": 0})
    assert chat(served, first).status_code == 401
    listed = served.client.get("/admin/keys", headers=boss).json()["keys"]
    assert [(key["name"], key["granted_by"], key["secrets"]) for key in listed] == [
        ("intern", "boss", 1)
    ]
    assert served.client.post("/admin/keys/intern/revoke", headers=boss).status_code == 200
    assert chat(served, rotated.json()["key"]).status_code == 401


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"name": "x", "experts": ["large"]}, 403, "experts"),
        ({"name": "x", "role": "admin"}, 403, "role"),
        ({"name": "x", "roles": "admin"}, 400, "roles"),
        ({"name": "x", "limits": [{"usd": -1, "per": "day"}]}, 400, "limits[0].usd"),
        ({"name": "x", "expires_in_s": 1, "expires_at": 9e9}, 400, "the body"),
        ({"name": "team"}, 409, "name"),
        ({}, 400, "name"),
    ],
    ids=str,
)
def test_a_key_that_must_not_be_is_not_made(
    served: Any, body: dict[str, Any], status: int, param: str
) -> None:
    answer = served.client.post("/admin/keys", headers=header("boss-key-1"), json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)
    assert served.client.get("/admin/keys", headers=header("boss-key-1")).json()["keys"] == []


def test_callers_make_no_keys(served: Any) -> None:
    team = header("team-key-1")
    assert served.client.get("/admin/keys", headers=team).status_code == 403
    made = served.client.post("/admin/keys", headers=team, json={"name": "mine"})
    assert (made.status_code, made.json()["error"]["code"]) == (403, "not_manager")


def test_a_browser_gets_in_with_the_key_as_password(served: Any) -> None:
    asked = served.client.get("/")
    assert asked.headers["www-authenticate"].startswith("Basic")
    assert served.client.get("/", auth=("me", "root-key-1")).status_code == 200
    assert served.client.get("/", auth=("me", "team-key-1")).status_code == 403


def test_another_process_learns_of_a_key_and_its_end_from_the_ledger(
    serve: Serve, remote: Remote, provider: FakeProvider
) -> None:
    fast = {"refresh_s": 0.02}
    here, there = (
        serve({"small": remote("small", provider.url)}, keys=KEYS, access=fast) for _ in range(2)
    )
    made = here.client.post("/admin/keys", headers=header("root-key-1"), json={"name": "new"})
    secret = made.json()["key"]
    _until(lambda: chat(there, secret).status_code == 200)
    here.client.post("/admin/keys/new/revoke", headers=header("root-key-1"))
    assert chat(here, secret).status_code == 401
    _until(lambda: chat(there, secret).status_code == 401)


def _until(holds: Callable[[], bool]) -> None:
    assert any(holds() for _ in range(200)), "it never came"


def test_no_secret_is_seen_anywhere(
    served: Any, provider: FakeProvider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    made = served.client.post("/admin/keys", headers=header("root-key-1"), json={"name": "planted"})
    secret = made.json()["key"]
    provider.script.extend([Reply(), Reply(status=401, error={"message": f"bad key {'up'}"})])
    answers = [chat(served, secret), chat(served, secret), chat(served, secret, "nobody")]
    answers += [
        chat(served, secret + "x"),
        served.client.get(
            f"/v1/decisions/{answers[0].headers['x-pointsman-decision-id']}", headers=header(secret)
        ),
        served.client.get("/admin/keys", headers=header("root-key-1")),
        served.client.get("/metrics", headers=header(secret)),
        served.client.get("/", auth=("me", "root-key-1")),
    ]
    for answer in answers:
        assert secret not in answer.text
        assert secret not in str(answer.headers)
    assert secret not in caplog.text
    assert all(secret not in str(sent) for sent in provider.headers)
    assert secret not in repr(served.gateway.keyring.keys)
