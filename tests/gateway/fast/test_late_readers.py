"""Clients that read a stream more slowly than it is written: the expert waits, and is not late."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from experts.base import Expert
from experts.fakes.provider import FakeProvider, Reply
from experts.fakes.server import Act, FakeServer, ReceivedRequest, chunk, event, whole
from experts.fakes.server import head as reply_head
from experts.fakes.server import serving as fake
from gateway.fast.exchange import Exchange
from tests.conftest import Serve, Served
from tests.gateway.raw import chat, line, post, until

Remote = Callable[..., Expert]
LATER_S = 60.0
"""Longer than any expert may be silent, shorter than the deadline."""


class Ample(FakeServer):
    """Streams more than all sockets between it and a client hold."""

    pieces = 400

    def acts(self, asked: ReceivedRequest) -> Iterator[Act]:
        yield reply_head(200, {"content-type": "text/event-stream"}, None)
        for ended in [None] * self.pieces + ["stop"]:
            delta = {"content": "" if ended else "x" * 50_000}
            choice = {"index": 0, "delta": delta, "finish_reason": ended}
            yield chunk(event({"choices": [choice]}))
        yield chunk(event("[DONE]")) + chunk(b"")


class Untaken(Ample):
    """Answers first with more than sockets hold, then streams without end; `sent` counts that."""

    sent = 0

    def acts(self, asked: ReceivedRequest) -> Iterator[Act]:
        if not asked.body.get("stream"):
            message = {"role": "assistant", "content": "x" * 20_000_000}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            yield whole(200, {"choices": [choice]}, {})
            return
        yield reply_head(200, {"content-type": "text/event-stream"}, None)
        choice = {"index": 0, "delta": {"content": "x" * 50_000}, "finish_reason": None}
        piece = chunk(event({"choices": [choice]}))
        while True:
            self.sent += len(piece)
            yield piece


def under_way(served: Served) -> list[Exchange]:
    lane = served.gateway.lane
    assert lane is not None
    return list(lane.live)


def on_loop(exchange: Exchange, *steps: Callable[[], None]) -> None:
    """Do something where the exchange lives."""

    async def done() -> None:
        for step in steps:
            step()

    asyncio.run_coroutine_threadsafe(done(), exchange._loop).result(30)


def test_an_expert_waits_for_a_client_that_reads_late_and_goes_on(
    serve: Serve, remote: Remote
) -> None:
    def held() -> Exchange | None:
        for exchange in under_way(served):
            call = exchange._relay and exchange._relay._call
            connection = call and call._connection
            if connection and connection._transport and not connection._transport.is_reading():
                return exchange
        return None

    with fake(Ample()) as provider:
        limits = {"max_answer_bytes": 1 << 26}
        served = serve({"a": remote("a", provider.url)}, limits=limits)
        with line(served.url) as client:
            client.send(post(chat(stream=True), "connection: close"))
            until(lambda: held() is not None)
            exchange = held()
            assert exchange is not None
            on_loop(exchange, lambda: exchange.check(exchange._loop.time() + LATER_S))
            received = 0
            while data := client.socket.recv(1 << 20):
                received += data.count(b"x")
            assert received >= 50_000 * Ample.pieces
        assert len(provider.bodies) == 1
    assert served.verified().faults == ()
    assert [row["status"] for row in served.gateway.reader.recent(1)] == [200]


@pytest.mark.parametrize("told", [False, True], ids=["in the middle", "before the usage"])
def test_an_expert_is_late_again_once_the_client_has_caught_up(
    serve: Serve,
    remote: Remote,
    provider: FakeProvider,
    told: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.fast.relay._GRACE_S", LATER_S / 2)
    provider.script.append(Reply("a b c", stall_after=4 if told else 1))
    served = serve({"a": remote("a", provider.url)}, execution={"mid_stream": "error"})
    with line(served.url) as client:
        client.send(post(chat(stream=True), "connection: close"))
        wanted = b'"stop"' if told else b'"a'
        while wanted not in client.got:
            assert client.more()
        (exchange,) = under_way(served)

        def check() -> None:
            exchange.check(exchange._loop.time() + LATER_S)

        on_loop(exchange, lambda: exchange.pause(paused=True), check)
        assert not exchange.over
        on_loop(exchange, lambda: exchange.pause(paused=False), check)
        assert exchange.over
        assert (b"[DONE]" in client.rest()) is told
    assert served.verified().faults == ()


@pytest.mark.parametrize("special", [{}, {"user": "u", "n": 1}], ids=["plain", "not so plain"])
def test_an_answer_behind_one_that_is_not_taken_yet_is_not_read_ahead(
    serve: Serve, remote: Remote, special: dict[str, Any]
) -> None:
    with fake(Untaken()) as provider:
        limits = {"max_answer_bytes": 1 << 26}
        served = serve({"a": remote("a", provider.url)}, limits=limits, server={"write_s": 1})
        with line(served.url) as client:
            client.send(post(chat()))
            until(lambda: served.totals()["requests"] == 1)
            client.send(post(chat(stream=True, **special)))
            until(lambda: provider.open < provider.connections)
            # What the sockets hold, and no more.
            assert provider.sent < 40_000_000
    assert served.verified().faults == ()
    assert [row["status"] for row in served.gateway.reader.recent(1)] == [499]
