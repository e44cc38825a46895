"""Who takes which path, and that a request which changes paths is the same request."""

from __future__ import annotations

import gc
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import numpy as np
import orjson
import pytest

from experts.base import Expert
from experts.cards import ExpertCard, Prices
from experts.fakes.provider import FakeProvider, Reply
from experts.fakes.scripted import ScriptedExpert, says
from experts.fakes.server import Act, FakeServer, ReceivedRequest, head
from experts.fakes.server import serving as fake
from experts.http.plain_connection import Connection
from gateway.execution.slots import Slots
from gateway.fast.clock import Clock
from gateway.fast.exchange import Exchange
from gateway.fast.lane import MAX_BODY_BYTES
from gateway.fast.protocol import FastProtocol
from gateway.fast.relay import Relay
from gateway.fast.reply import Reply as Written
from gateway.fast.streams import RawStream

Remote = Callable[..., Expert]
Serve = Callable[..., Any]
FAST = "verbatim-id"


def verbatim(text: str = "Hello", **more: Any) -> Reply:
    """An answer whose id tells whether it came through untouched."""
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
    body = {"id": FAST, "object": "chat.completion", "created": 1, "model": "m"}
    return Reply(whole={**body, "choices": [choice], "usage": usage}, **more)


def was_fast(answer: httpx2.Response) -> bool:
    assert answer.status_code == 200, answer.text
    return bool(answer.json()["id"] == FAST)


def test_an_answer_goes_through_untouched_but_for_the_model(
    serve: Serve, remote: Remote, provider: FakeProvider
) -> None:
    provider.otherwise = verbatim(extra_of_answer := "a \u2028 b")
    served = serve({"only": remote("only", provider.url)})
    answer = served.ask("only")
    assert was_fast(answer)
    assert answer.json()["model"] == "only"
    assert answer.json()["choices"][0]["message"]["content"] == extra_of_answer
    assert answer.json()["usage"]["total_tokens"] == 12
    record = served.record(answer)
    assert record["attempts"][0]["status"] == "ok"
    assert answer.headers["x-pointsman-cost-usd"] == "0.000014000"
    assert served.verified().faults == ()


class Untyped(FakeServer):
    """Sends `body` and does not say what it is."""

    body = b""

    def acts(self, asked: ReceivedRequest) -> Iterator[Act]:
        yield head(200, {}, len(self.body)) + self.body


@pytest.mark.parametrize("stream", [False, True])
def test_what_an_answer_is_that_has_no_type_is_seen_by_how_it_begins(
    serve: Serve, remote: Remote, stream: bool
) -> None:
    with fake(Untyped()) as untyped:
        served = serve({"only": remote("only", untyped.url)}, execution={"max_retries": 0})
        untyped.body = b"<html>not here</html>"
        answer = served.ask("only", stream=stream)
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_protocol")
        untyped.body = b"".join(Reply("Hello").events({"messages": []}))
        assert "Hello" in served.ask("only", stream=stream).text
        untyped.body = orjson.dumps(verbatim().whole)
        assert "Hello" in served.ask("only", stream=stream).text
    assert served.verified().faults == ()


@pytest.mark.parametrize("durability", ["strict", "relaxed"])
@pytest.mark.parametrize("model", ["only", "auto"])
def test_it_is_taken_whether_or_not_the_disk_is_waited_for(
    serve: Serve, remote: Remote, provider: FakeProvider, durability: str, model: str
) -> None:
    provider.otherwise = verbatim()
    served = serve({"only": remote("only", provider.url)}, ledger={"durability": durability})
    # The plainest ones, and those that are not as plain.
    parts = [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]
    answers = [served.ask(model), served.ask(model, messages=parts)]
    assert [was_fast(answer) for answer in answers] == [True, True]
    assert served.totals()["requests"] == 2
    for answer in answers:
        assert served.record(answer)["attempts"][0]["status"] == "ok"


@pytest.mark.parametrize(
    ("fields", "headers", "sections"),
    [
        ({}, {"x-pointsman-debug": "true"}, {}),
        ({"pointsman": {"max_latency_ms": 20000}}, {}, {}),
        ({"padding": "x" * MAX_BODY_BYTES}, {}, {}),
        ({}, {}, {"server": {"fast_path": False}}),
        ({}, {}, {"cache": {"exact": True}}),
        ({}, {}, {"guards": [{"kind": "regex", "patterns": {"none": "nothing like it"}}]}),
    ],
    ids=["debug", "haste", "large", "off", "cache", "guards"],
)
def test_what_is_not_for_it_goes_the_ordinary_way(
    serve: Serve,
    remote: Remote,
    provider: FakeProvider,
    fields: dict[str, Any],
    headers: dict[str, str],
    sections: dict[str, Any],
) -> None:
    provider.otherwise = verbatim()
    served = serve({"only": remote("only", provider.url)}, **sections)
    body = {"model": "only", "messages": [{"role": "user", "content": "Hi"}], **fields}
    answer = served.client.post("/v1/chat/completions", json=body, headers=headers)
    assert not was_fast(answer)
    assert answer.json()["choices"][0]["message"]["content"] == "Hello"


def test_a_decision_for_an_expert_elsewhere_is_drawn_once(
    serve: Serve, remote: Remote, provider: FakeProvider
) -> None:
    provider.otherwise = verbatim()
    experts = {
        "near": remote("near", provider.url),
        "far": ScriptedExpert(ExpertCard("far", prices=Prices(1.0, 2.0)), says("Hello")),
    }
    served = serve(experts, routing={"epsilon": 1.0})
    answers = [served.ask("auto") for _ in range(60)]
    chosen = [answer.headers["x-pointsman-expert"] for answer in answers]
    assert [was_fast(answer) for answer in answers] == [each == "near" for each in chosen]
    assert set(chosen) == {"near", "far"}
    # Every draw that was made is on record: none was thrown away for another.
    records = [served.record(answer) for answer in answers]
    chance = np.random.default_rng(1)
    assert [record["draw"] for record in records] == [chance.random() for _ in range(60)]
    assert all(record["replay"]["matches"] for record in records)
    assert served.totals()["requests"] == 60


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_that_failed_is_booked_once_and_another_expert_answers(
    serve: Serve, remote: Remote, provider: FakeProvider, stream: bool
) -> None:
    provider.script.extend([Reply(status=500), Reply(status=500), Reply("all is well")])
    experts = {"first": remote("first", provider.url), "second": remote("second", provider.url)}
    served = serve(experts, execution={"fallbacks": {"first": ["second"]}})
    answer = served.ask("first", stream=stream)
    assert "well" in answer.text
    attempts = served.record(answer)["attempts"]
    assert [(each["expert_id"], each["status"]) for each in attempts] == [
        ("first", "failed"),
        ("first", "failed"),
        ("second", "ok"),
    ]
    assert answer.headers["x-pointsman-attempts"] == "3"
    assert served.verified().faults == ()
    assert served.gateway.uses.count == 0


def test_a_stream_that_breaks_is_gone_on_with_in_the_same_answer(
    serve: Serve, remote: Remote, provider: FakeProvider
) -> None:
    provider.script.extend([Reply("one two three four", cut_after=2), Reply("one two three four")])
    experts = {"first": remote("first", provider.url), "second": remote("second", provider.url)}
    served = serve(experts, execution={"fallbacks": {"first": ["second"]}})
    answer = served.ask("first", stream=True, stream_options={"include_usage": True})
    *chunks, last = [line[6:] for line in answer.text.split("\n\n") if line]
    assert last == "[DONE]"
    parsed = [orjson.loads(chunk) for chunk in chunks]
    assert len({chunk["id"] for chunk in parsed}) == 1
    text = "".join(
        choice["delta"].get("content") or "" for chunk in parsed for choice in chunk["choices"]
    )
    assert text == "one two three four"
    assert parsed[-1]["usage"]["completion_tokens"] == 2
    attempts = served.record(answer)["attempts"]
    assert [each["status"] for each in attempts] == ["failed", "ok"]
    assert served.verified().faults == ()
    assert served.gateway.uses.count == 0


def test_no_slot_free_means_waiting_in_the_queue(
    serve: Serve, remote: Remote, provider: FakeProvider
) -> None:
    provider.script.extend([Reply("a b c", stall_after=1), verbatim()])
    served = serve({"only": remote("only", provider.url)})
    slots = Slots({"only": 1})
    object.__setattr__(served.gateway.lane.traffic, "slots", slots)
    with ThreadPoolExecutor(1) as threads:
        with socket.create_connection(("127.0.0.1", port_of(served)), timeout=20) as first:
            first.sendall(written("only"))
            assert provider.stalled.wait(30)
            waiting = threads.submit(served.ask, "only")
            until(lambda: slots.waiting("only") == 1)
        answer = waiting.result(20)
    # The one that waited got the slot of the one that left, by the ordinary path.
    assert not was_fast(answer)
    assert served.record(answer)["attempts"][0]["status"] == "ok"


def until(done: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    never = threading.Event()
    for _ in range(2000):
        if done():
            return
        never.wait(0.01)
    raise AssertionError("it never was")


def port_of(served: Any) -> int:
    return httpx2.URL(served.url).port or 0


def written(model: str) -> bytes:
    """A request as it goes over the wire."""
    body = orjson.dumps({"model": model, "messages": [{"role": "user", "content": "Hi"}]})
    lines = ("POST /v1/chat/completions HTTP/1.1", "host: 127.0.0.1")
    return "\r\n".join((*lines, f"content-length: {len(body)}", "", "")).encode() + body


def test_requests_that_come_together_are_answered_in_order(
    serve: Serve, remote: Remote, provider: FakeProvider
) -> None:
    provider.script.extend([verbatim("first"), verbatim("second"), verbatim("third")])
    served = serve({"only": remote("only", provider.url)})
    with socket.create_connection(("127.0.0.1", port_of(served)), timeout=20) as client:
        client.sendall(written("only") * 3)
        received = b""
        while received.count(b'"finish_reason"') < 3:
            received += client.recv(65536)
    places = [received.index(word) for word in (b"first", b"second", b"third")]
    assert places == sorted(places)
    assert served.totals()["requests"] == 3


def test_a_ledger_that_is_behind_is_waited_for(
    serve: Serve, remote: Remote, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.otherwise = verbatim()
    # It says when it is not any more; nobody has to come back for that.
    monkeypatch.setattr("gateway.fast.seat._BEHIND_S", 300.0)
    served = serve({"only": remote("only", provider.url)}, ledger={"max_pending": 1})
    answers = [served.ask("only") for _ in range(20)]
    assert {answer.status_code for answer in answers} == {200}
    assert served.totals()["requests"] == 20
    assert served.gateway.lane.live == set()


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
def test_nothing_of_a_request_waits_for_the_garbage_collector(
    serve: Serve, remote: Remote, provider: FakeProvider
) -> None:
    experts = {"first": remote("first", provider.url), "second": remote("second", provider.url)}
    served = serve(experts, execution={"fallbacks": {"first": ["second"]}})
    for stream in (False, True):
        for reply in (Reply("fine"), Reply(status=500), Reply("one two", cut_after=1)):
            provider.script.append(reply)
            assert served.ask("first", stream=stream).status_code == 200
        provider.script.append(Reply("a b c", stall_after=1))
        provider.stalled.clear()
        with socket.create_connection(("127.0.0.1", port_of(served)), timeout=20) as client:
            client.sendall(written("first"))
            assert provider.stalled.wait(30)
        until(lambda: not served.gateway.lane.live)
    until(lambda: served.gateway.uses.count == 0)
    kinds = (Exchange, Relay, Written, Clock, RawStream)
    # The loop may hold the last of them a moment longer; without the collector, no cycle ever goes.
    until(lambda: not any(alive(kind) for kind in kinds))
    served.client.close()
    # Connections that ended are gone too, those of clients and those to experts.
    until(lambda: not alive(FastProtocol))
    until(lambda: len(alive(Connection)) == open_to(served))


def alive(kind: type[Any]) -> list[Any]:
    # Not isinstance: some objects of other libraries warn when they are asked for their class.
    return [each for each in gc.get_objects() if issubclass(type(each), kind)]


def open_to(served: Any) -> int:
    endpoints = [one for e in served.gateway.pool.experts.values() for one in e._plain.values()]
    return sum(endpoint.connections for endpoint in endpoints)
