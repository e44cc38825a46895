"""Dead, slow, cutting and refusing experts; clients that leave."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import httpx2
import orjson
import pytest

from experts.base import Expert
from experts.fakes.provider import FakeProvider, Reply, fake_provider
from gateway.ledger.store import Ledger

Serve = Callable[..., Any]
Remote = Callable[..., Expert]
DEAD = "http://127.0.0.1:9/v1"
CERTAIN = {"epsilon": 0.0}


@pytest.fixture
def spare() -> Iterator[FakeProvider]:
    with fake_provider() as running:
        running.otherwise = Reply("the spare answers")
        yield running


def pair(serve: Serve, remote: Remote, first: str, second: str, **sections: Any) -> Any:
    """Two experts of which `auto` prefers the first."""
    experts = {
        "first": remote("first", first, quality_prior=0.9),
        "second": remote("second", second, quality_prior=0.2),
    }
    return serve(experts, routing=CERTAIN, **sections)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_a_failure_says_who_was_asked_how_often_and_for_how_much(
    serve: Serve, remote: Remote, path: str
) -> None:
    served = pair(serve, remote, DEAD, DEAD)
    messages = [{"role": "user", "content": "Hi"}]
    body = {"model": "auto", "max_tokens": 9, "messages": messages}
    answer = served.client.post(path, json=body)
    record = served.record(answer)
    assert answer.status_code == 502
    said = {
        name: answer.headers[f"x-pointsman-{name}"] for name in ("expert", "router", "cost-usd")
    }
    assert said == {
        "expert": record["attempts"][-1]["expert_id"],
        "router": "default",
        "cost-usd": "0.000000000",
    }
    assert answer.headers["x-pointsman-attempts"] == str(len(record["attempts"]))


def test_a_wish_for_haste_that_leaves_no_time_to_ask_is_the_clients_timeout(
    serve: Serve, remote: Remote, spare: FakeProvider
) -> None:
    served = pair(serve, remote, spare.url, spare.url)
    answer = served.ask(pointsman={"max_latency_ms": 1e-6})
    assert answer.status_code == 504, answer.text
    assert spare.bodies == []


@pytest.mark.parametrize(
    ("wish_ms", "refused"),
    [(50, (504, "deadline_exceeded")), (60_000, (503, "ledger_unavailable"))],
    ids=["hurried", "not"],
)
def test_a_wish_for_haste_is_blamed_for_a_slow_ledger_only_if_it_bounds_the_time(
    serve: Serve,
    remote: Remote,
    monkeypatch: pytest.MonkeyPatch,
    wish_ms: int,
    refused: tuple[int, str],
) -> None:
    async def slow(_ledger: Ledger) -> None:
        await anyio.sleep_forever()

    served = pair(serve, remote, DEAD, DEAD, limits={"total_s": 0.1})
    monkeypatch.setattr(Ledger, "admit", slow)
    answer = served.ask(pointsman={"max_latency_ms": wish_ms})
    assert (answer.status_code, answer.json()["error"]["code"]) == refused


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_dead_expert_is_replaced_by_the_next_best(
    serve: Serve, remote: Remote, spare: FakeProvider, stream: bool
) -> None:
    served = pair(serve, remote, DEAD, spare.url)
    answer = served.ask(stream=stream)
    assert answer.status_code == 200
    assert answer.headers["x-pointsman-expert"] == "second"
    assert answer.headers["x-pointsman-attempts"] == "2"
    assert "the" in answer.text
    record = served.record(answer)
    assert [a["status"] for a in record["attempts"]] == ["failed", "ok"]
    assert record["attempts"][0]["error_kind"] == "connection"
    assert record["attempts"][0]["wasted"] is True
    assert record["expert_id"] == "first"
    assert record["result"]["answered_by"] == "second"
    assert record["result"]["cost_complete"] is True
    assert served.verified().faults == ()


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(status=500), "unavailable"),
        (Reply(status=429), "rate_limited"),
        (Reply(finish=None), "protocol"),
    ],
    ids=["500", "429", "no finish"],
)
def test_failures_before_the_first_token_fall_back(
    serve: Serve,
    remote: Remote,
    provider: FakeProvider,
    spare: FakeProvider,
    reply: Reply,
    kind: str,
) -> None:
    provider.otherwise = reply
    served = pair(serve, remote, provider.url, spare.url)
    answer = served.ask()
    assert answer.headers["x-pointsman-expert"] == "second"
    assert served.record(answer)["attempts"][0]["error_kind"] == kind


def test_a_key_of_ours_that_is_wrong_is_told_not_routed_around(
    serve: Serve, remote: Remote, provider: FakeProvider, spare: FakeProvider
) -> None:
    provider.otherwise = Reply(status=401)
    answer = pair(serve, remote, provider.url, spare.url).ask()
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_auth")
    assert spare.bodies == []


def test_a_request_that_is_wrong_is_not_tried_elsewhere(
    serve: Serve, remote: Remote, provider: FakeProvider, spare: FakeProvider
) -> None:
    provider.otherwise = Reply(status=400, error={"message": "bad temperature", "code": "bad"})
    served = pair(serve, remote, provider.url, spare.url)
    answer = served.ask()
    assert answer.status_code == 400
    assert "bad temperature" in answer.json()["error"]["message"]
    assert spare.bodies == []


def test_a_context_that_is_too_long_for_one_may_fit_another(
    serve: Serve, remote: Remote, provider: FakeProvider, spare: FakeProvider
) -> None:
    error = {"message": "too long", "code": "context_length_exceeded"}
    provider.otherwise = Reply(status=400, error=error)
    served = pair(serve, remote, provider.url, spare.url)
    assert served.ask().headers["x-pointsman-expert"] == "second"


def test_when_everybody_fails_the_answer_says_so_and_the_books_are_closed(
    serve: Serve, remote: Remote
) -> None:
    served = pair(serve, remote, DEAD, DEAD)
    answer = served.ask()
    assert answer.status_code == 502
    message = answer.json()["error"]["message"]
    assert "first" in message
    assert "second" in message
    record = served.record(answer)
    assert record["result"]["status"] == 502
    assert record["result"]["cost_nanousd"] == 0
    assert record["result"]["cost_complete"] is True


def test_an_expert_asked_by_name_is_not_replaced(
    serve: Serve, remote: Remote, spare: FakeProvider
) -> None:
    served = pair(serve, remote, DEAD, spare.url)
    assert served.ask("first").status_code == 502
    assert spare.bodies == []


def test_a_rate_limit_of_the_last_expert_is_passed_on_with_its_wait(
    serve: Serve, remote: Remote, provider: FakeProvider
) -> None:
    provider.otherwise = Reply(status=429, headers={"retry-after": "7"})
    served = serve({"only": remote("only", provider.url)}, limits={"total_s": 5})
    answer = served.ask("only")
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "7"


def test_a_stream_that_breaks_ends_in_an_error_and_without_done(
    serve: Serve, remote: Remote, provider: FakeProvider
) -> None:
    provider.otherwise = Reply("a b c", cut_after=2)
    served = serve({"only": remote("only", provider.url)})
    answer = served.ask("only", stream=True)
    events = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    assert answer.status_code == 200
    assert "[DONE]" not in events
    assert orjson.loads(events[-1])["error"]["code"] == "upstream_protocol"
    record = served.record(answer)
    assert record["result"]["status"] == 502
    assert record["attempts"][0]["status"] == "failed"
    assert record["attempts"][0]["cost_nanousd"] > 0


def test_an_answer_that_breaks_before_it_was_sent_is_asked_again(
    serve: Serve, remote: Remote, provider: FakeProvider, spare: FakeProvider
) -> None:
    provider.otherwise = Reply("a b c", cut_after=2)
    served = pair(serve, remote, provider.url, spare.url)
    answer = served.ask()
    assert answer.json()["choices"][0]["message"]["content"] == "the spare answers"


@pytest.mark.parametrize("stall_after", [0, 1], ids=["first token", "later token"])
def test_silence_is_cut_short(
    serve: Serve, remote: Remote, provider: FakeProvider, stall_after: int
) -> None:
    provider.otherwise = Reply("a b c", stall_after=stall_after)
    limits = {"first_token_s": 0.2, "idle_s": 0.2}
    served = serve({"only": remote("only", provider.url)}, limits=limits)
    answer = served.ask("only", stream=True)
    error = (
        orjson.loads(answer.text.split("\n\n")[-2].removeprefix("data: "))
        if (stall_after)
        else answer.json()
    )
    assert error["error"]["code"] == "upstream_timeout"
    assert answer.status_code == (200 if stall_after else 504)
    assert provider.left.wait(timeout=30)


def test_the_deadline_bounds_the_whole_chain(
    serve: Serve, remote: Remote, provider: FakeProvider, spare: FakeProvider
) -> None:
    provider.otherwise = spare.otherwise = Reply(stall_after=0)
    served = pair(serve, remote, provider.url, spare.url, limits={"total_s": 0.4})
    answer = served.ask()
    assert answer.status_code == 504
    record = served.record(answer)
    assert record["result"]["latency_s"] < 5
    assert [len(provider.bodies), len(spare.bodies)] == [1, 1]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_silent_expert_leaves_time_for_another(
    serve: Serve, remote: Remote, provider: FakeProvider, spare: FakeProvider, stream: bool
) -> None:
    provider.otherwise = Reply(stall_after=0)
    served = pair(serve, remote, provider.url, spare.url, limits={"total_s": 1})
    assert served.ask(stream=stream).headers["x-pointsman-expert"] == "second"


@pytest.mark.parametrize(
    ("limit", "stream"), [("whole_s", False), ("first_token_s", True)], ids=["whole", "stream"]
)
def test_a_slow_expert_is_replaced_and_not_asked_again(
    serve: Serve,
    remote: Remote,
    provider: FakeProvider,
    spare: FakeProvider,
    limit: str,
    stream: bool,
) -> None:
    provider.otherwise = Reply(stall_after=0)
    served = pair(serve, remote, provider.url, spare.url, limits={limit: 0.2})
    assert served.ask(stream=stream).headers["x-pointsman-expert"] == "second"
    assert served.ask("first", stream=stream).status_code == 504
    assert len(provider.bodies) == 2


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_client_that_leaves_stops_the_call_upstream_and_is_booked(
    serve: Serve, remote: Remote, provider: FakeProvider, stream: bool
) -> None:
    provider.otherwise = Reply("a b c", stall_after=1)
    served = serve({"only": remote("only", provider.url)})
    leave_once_stalled(served.url, provider.stalled, stream)
    assert provider.left.wait(timeout=30)
    attempt = booked_attempt(served)
    assert attempt["status"] == "cancelled"
    assert attempt["wasted"] is True
    assert served.verified().faults == ()


def leave_once_stalled(url: str, stalled: threading.Event, stream: bool) -> None:
    """Open a request by hand and close its socket when the provider has gone silent."""
    body = orjson.dumps(
        {"model": "only", "stream": stream, "messages": [{"role": "user", "content": "Hi"}]}
    )
    lines = (
        "POST /v1/chat/completions HTTP/1.1",
        "host: 127.0.0.1",
        f"content-length: {len(body)}",
    )
    head = "\r\n".join((*lines, "", ""))
    port = httpx2.URL(url).port
    with socket.create_connection(("127.0.0.1", port or 0)) as client:
        client.sendall(head.encode() + body)
        assert stalled.wait(timeout=30)


def booked_attempt(served: Any) -> dict[str, Any]:
    """The only attempt, once its result is booked."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        (row,) = served.gateway.reader.recent(1)
        if row["status"] == 499:
            record: dict[str, Any] = served.gateway.reader.decision(row["decision_id"])
            attempt: dict[str, Any] = record["attempts"][0]
            return attempt
    raise AssertionError("the request that was left is not booked")
