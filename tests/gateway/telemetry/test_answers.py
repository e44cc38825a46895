"""What every answer says of itself: request id and where the time went."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from experts.base import Expert
from experts.fakes.provider import FakeProvider, Reply
from gateway.fast.quick import Quick

Serve = Callable[..., Any]
Remote = Callable[..., Expert]
PHASES = ["admit", "decide", "ledger", "upstream", "overhead"]


def timing(answer: Any) -> dict[str, float]:
    found = re.findall(r"(\w+);dur=([\d.]+)", answer.headers["server-timing"])
    return {name: float(value) for name, value in found}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_server_timing_names_every_phase(one: Any, stream: bool) -> None:
    phases = timing(one.ask("small", stream=stream))
    assert list(phases) == PHASES
    assert phases["upstream"] > 0
    assert phases["ledger"] > 0
    assert phases["overhead"] >= phases["admit"] + phases["decide"] + phases["ledger"] - 0.01


@pytest.mark.parametrize("body", [b"{", b'{"model":"nobody","messages":[]}'], ids=["cut", "nobody"])
def test_refusals_carry_both_headers_too(one: Any, body: bytes) -> None:
    answer = one.client.post("/v1/chat/completions", content=body)
    assert answer.status_code >= 400
    assert timing(answer)["upstream"] == 0
    assert answer.headers["x-request-id"].startswith("req-")


def test_a_failed_answer_says_how_long_it_was_tried(one: Any, provider: FakeProvider) -> None:
    provider.otherwise = Reply(status=500)
    assert timing(one.ask("small"))["upstream"] > 0


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/health/live", "/v1/nothing"])
def test_a_client_gets_its_own_request_id_back(one: Any, path: str) -> None:
    answer = one.client.get(path, headers={"x-request-id": "my.Id-7/a:b=c@d"})
    assert answer.headers.get_list("x-request-id") == ["my.Id-7/a:b=c@d"]


@pytest.mark.parametrize(
    "given", ["", "x" * 129, "with space", 'quo"te', "ümlaut".encode().decode("latin-1")]
)
def test_an_id_that_is_unfit_is_replaced(one: Any, given: str) -> None:
    headers = {"x-request-id": given.encode("latin-1")}
    answer = one.client.get("/health/live", headers=headers)
    assert re.fullmatch(r"req-[0-9a-f]{32}", answer.headers["x-request-id"])


@pytest.mark.parametrize("path", ["ordinary", "fast", "plain"])
def test_a_fault_of_ours_is_answered_in_the_wires_words(
    one: Any, monkeypatch: Any, path: str
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("key sk-planted-1234567890")

    if path == "plain":
        monkeypatch.setattr(Quick, "_ask", broken)
    elif path == "ordinary":
        # The two shorter paths leave to it what they fail to begin.
        monkeypatch.setattr(Quick, "of", broken)
        monkeypatch.setattr(one.gateway.lane, "admit", broken)
        monkeypatch.setattr(one.gateway.service, "answer", broken)
    else:
        monkeypatch.setattr(Quick, "of", lambda *_: None)
        monkeypatch.setattr(one.gateway.decider, "submit", broken)
    answer = one.ask("small")
    assert answer.status_code == 500
    assert answer.json()["error"]["message"] == "internal error"
    assert answer.headers["x-request-id"].startswith("req-")


def test_a_fault_outside_the_chat_routes_has_a_request_id_too(one: Any, monkeypatch: Any) -> None:
    def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(one.gateway.telemetry.metrics, "text", broken)
    answer = one.client.get("/metrics", headers={"x-request-id": "mine"})
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal_error"
    assert answer.headers.get_list("x-request-id") == ["mine"]
    # The connection of one that crashed is not used again, and its client knows.
    version = {"anthropic-version": "2023-06-01", "x-request-id": "mine"}
    answer = one.client.get("/metrics", headers=version)
    assert answer.headers.get_list("request-id") == [answer.json()["request_id"]] == ["mine"]
