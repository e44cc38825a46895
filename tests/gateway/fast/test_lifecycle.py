"""What may happen to a connection and its requests at any moment."""

from __future__ import annotations

import asyncio
import math
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from experts.http.breaker import Breaker, BreakerRules, BreakerState
from gateway.server.protocol import WAITING
from gateway.state import Uses
from tests.gateway.fast.stage import LONGEST, Stage, Wire, settled, told
from tests.gateway.raw import chat, head, post


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, empty_ledger: Path) -> Iterator[Stage]:
    shutil.copy(empty_ledger, tmp_path)
    stage = Stage(monkeypatch, tmp_path)
    yield stage
    stage.close()


def asks(text: str, **fields: object) -> bytes:
    return post(chat(messages=[{"role": "user", "content": text}], **fields))


async def answered(stage: Stage, wire: Wire, request: bytes) -> None:
    """One request and its answer, on the fast path."""
    wire.send(request)
    await settled()
    stage.asked[-1].on_whole(told("well"))
    await settled()


def test_an_answer_that_is_too_long_fails_once(stage: Stage) -> None:
    async def play() -> None:
        wire = stage.connect()
        wire.send(asks("one", model="auto"))
        await settled()
        (call,) = stage.asked
        call.on_head(200, "application/json")
        for _ in range(3):
            call.on_data(b"x" * LONGEST)
        call.on_end()
        await settled()
        # The other expert is asked, and the client has its answer.
        _, other = stage.asked
        assert other.future is not None
        other.future.set_result("well")
        await settled()
        assert wire.got.count(b"HTTP/1.1 200 OK") == 1
        assert not wire.closing
        assert stage.books.counts("attempt_result", "status") == {"failed": 1, "ok": 1}
        assert stage.left() == {}

    asyncio.run(play())


def test_a_long_answer_that_is_given_up_is_given_up_once(stage: Stage) -> None:
    async def play() -> None:
        wire = stage.connect()
        wire.send(asks("one"))
        await settled()
        (call,) = stage.asked
        call.on_head(200, "application/json")
        for _ in range(9):
            call.on_data(b"x" * LONGEST)
        await settled()
        assert wire.got.count(b"HTTP/1.1 ") == wire.got.count(b"HTTP/1.1 502") == 1
        assert stage.books.counts("attempt_result", "status") == {"failed": 1}
        assert stage.left() == {}

    asyncio.run(play())


def test_an_idle_timer_of_the_server_ends_no_request(stage: Stage) -> None:
    stage.config.timeout_keep_alive = 0

    async def play() -> None:
        wire = stage.connect()
        await answered(stage, wire, asks("one"))
        wire.send(head(method="GET", path="/health/live"))
        assert wire.protocol is not None
        # Just until it is answered: the timer that is set then must not be waited for.
        for _ in range(1000):
            if wire.protocol.phase == WAITING:
                break
            await asyncio.sleep(0)
        # Its head is known, so the server's own code is not asked about it.
        await answered(stage, wire, asks("two"))
        assert wire.got.count(b"HTTP/1.1 200 OK") == 3
        assert not wire.closing

    asyncio.run(play())


def test_a_head_is_remembered_with_its_own_bytes_only(stage: Stage) -> None:
    other = post(chat(max_tokens=9), path="/v1/messages")

    async def play() -> None:
        wire = stage.connect()
        wire.send(other)
        await settled()
        wire.send(asks("one")[:20])
        stage.asked[0].tell("well")
        await settled()
        wire.send(asks("one")[20:])
        await settled()
        stage.asked[1].on_whole(told("one"))
        await settled()
        wire.got = b""
        wire.send(other)
        await settled()
        stage.asked[2].tell("well")
        await settled()
        assert b'"type":"message"' in wire.got

    asyncio.run(play())


def test_who_is_told_that_there_is_no_room_is_not_kept_for_ever(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.server.protocol.LINGER_S", 0.0)

    async def play() -> None:
        wire = stage.connect(max_connections=0)
        assert b"too_many_connections" in wire.got
        await settled()
        assert wire.closing

    asyncio.run(play())


def test_a_client_that_has_not_taken_its_answer_makes_no_room(stage: Stage) -> None:
    async def play() -> None:
        wire = stage.connect(max_connections=1)
        await answered(stage, wire, asks("one"))
        wire.untaken = 100
        late = stage.join(max_connections=1)
        # Closed, it would wait for the client, and nobody would look after it any more.
        assert not wire.closing
        assert b"too_many_connections" in late.got
        wire.untaken = 0
        stage.join(max_connections=1)
        assert wire.closing

    asyncio.run(play())


@pytest.mark.parametrize("cut", [-1, -len(chat()), -len(chat()) + 10])
def test_a_request_whose_head_is_there_is_answered_before_the_end(stage: Stage, cut: int) -> None:
    async def play() -> None:
        wire, request = stage.connect(), post(chat())
        wire.send(request[:cut])
        assert wire.protocol is not None
        wire.protocol.shutdown()
        await settled()
        assert not wire.closing
        wire.send(request[cut:])
        await settled()
        stage.asked[0].tell("well")
        await settled()
        assert wire.got.startswith(b"HTTP/1.1 200 OK")
        assert b"connection: close" in wire.got
        assert wire.closing
        assert stage.left() == {}

    asyncio.run(play())


@pytest.mark.parametrize("stream", [False, True])
def test_who_waits_for_the_ledger_is_told_that_the_gateway_ends(stage: Stage, stream: bool) -> None:
    async def play() -> None:
        wire = stage.connect()
        stage.books.pressed = True
        wire.send(asks("one", stream=stream))
        await settled()
        stage.stop()
        await settled()
        stage.books.pressed = False
        stage.books.tell(0, None)
        await settled()
        assert wire.got.startswith(b"HTTP/1.1 503 ")
        assert b"shutting_down" in wire.got
        assert stage.asked == []
        assert stage.left() == {}

    asyncio.run(play())


def test_who_waits_for_the_ledger_is_served_by_a_gateway_that_is_not_closed(stage: Stage) -> None:
    snapshots = stage.app.state.snapshots
    first = snapshots.current

    async def play() -> None:
        wire = stage.connect()
        stage.books.pressed = True
        wire.send(asks("one"))
        gateway = replace(stage.gateway, uses=Uses())
        snapshots.swap(replace(first, gateway=gateway, number=2))
        (seat,) = stage.lane.wheel.waiting
        seat.check(math.inf)
        stage.books.pressed = False
        await settled()
        (call,) = stage.asked
        assert [each.gateway.uses.count for each in snapshots.live] == [1]
        call.tell("well")
        await settled()
        assert wire.got.startswith(b"HTTP/1.1 200 OK")

    asyncio.run(play())


@pytest.mark.parametrize("header", ["x-a: b", "x-pointsman-debug: true"])
def test_who_asks_behind_a_request_and_leaves_is_missed(stage: Stage, header: str) -> None:
    async def play() -> None:
        wire = stage.connect()
        wire.send(post(chat(), header))
        await settled()
        for _ in range(3):
            wire.send(post(chat()))
            await settled()
        wire.leave()
        await settled()
        assert len(stage.asked) == 1
        assert stage.left() == {}

    asyncio.run(play())


@pytest.mark.parametrize("fails", [True, False])
def test_a_request_that_comes_while_another_one_changes_paths_has_its_own_body(
    stage: Stage, fails: bool
) -> None:
    async def play() -> None:
        wire, second = stage.connect(), asks("two")
        wire.send(asks("one", model="auto"))
        await settled()
        wire.send(second[:-20])
        if fails:
            stage.asked[0].fail()
            await settled()
        wire.send(second[-20:])
        await settled()
        stage.asked[-1].tell("well")
        await settled()
        assert stage.asked[-1].text == "two"
        stage.asked[-1].tell("well")
        await settled()
        assert wire.got.count(b"HTTP/1.1 200 OK") == 2
        assert stage.left() == {}

    asyncio.run(play())


@pytest.mark.parametrize("content", ["one", [{"type": "text", "text": "one"}]])
@pytest.mark.parametrize("end", ["answer", "leave", "leave before the disk has it"])
def test_a_probe_of_an_expert_is_given_back(stage: Stage, content: object, end: str) -> None:
    """Or the expert would be left alone for another minute."""
    breaker = Breaker(BreakerRules(failures=1, open_s=0.0))
    stage.lane.traffic.health._breakers["a"] = breaker
    breaker.failed(breaker.admit() or 0)

    async def play() -> None:
        wire = stage.connect()
        stage.books.strict = True
        wire.send(post(chat(messages=[{"role": "user", "content": content}])))
        await settled()
        assert breaker.wait_s() > 0
        if end == "leave before the disk has it":
            wire.leave()
            await settled()
        stage.books.tell(0, None)
        await settled()
        if end == "answer":
            stage.asked[0].tell("well")
        wire.leave()
        await settled()
        assert breaker.wait_s() == 0
        state = BreakerState.CLOSED if end == "answer" else BreakerState.HALF_OPEN
        assert breaker.state is state
        assert stage.left() == {}

    asyncio.run(play())


def test_a_head_that_is_known_is_looked_at_again_under_another_configuration(stage: Stage) -> None:
    snapshots = stage.app.state.snapshots

    async def play() -> None:
        wire = stage.connect()
        for text in ("one", "two"):
            await answered(stage, wire, asks(text))
        gateway = replace(stage.gateway, uses=Uses(), lane=None)
        snapshots.swap(replace(snapshots.current, gateway=gateway, number=2))
        wire.send(asks("three"))
        await settled()
        assert gateway.uses.count == 1
        stage.asked[-1].tell("well")
        await settled()
        assert wire.got.count(b"HTTP/1.1 200 OK") == 3
        assert gateway.uses.count == 0

    asyncio.run(play())


def test_who_is_being_answered_at_the_stop_is_told_that_it_is_the_last_time(stage: Stage) -> None:
    async def play() -> None:
        wire = stage.connect()
        wire.send(asks("one"))
        await settled()
        assert wire.protocol is not None
        wire.protocol.shutdown()
        stage.asked[0].tell("well")
        await settled()
        assert wire.got.startswith(b"HTTP/1.1 200 OK")
        assert b"connection: close\r\n" in wire.got
        assert wire.closing

    asyncio.run(play())


@pytest.mark.parametrize("stream", [False, True])
def test_who_asks_for_the_last_time_is_answered_and_let_go(stage: Stage, stream: bool) -> None:
    async def play() -> None:
        wire = stage.connect()
        wire.send(post(chat(stream=stream), "connection: close"))
        await settled()
        stage.asked[0].tell("well")
        await settled()
        assert wire.got.startswith(b"HTTP/1.1 200 OK")
        assert b"connection: close\r\n" in wire.got
        assert wire.closing
        assert stage.left() == {}

    asyncio.run(play())


def test_a_request_that_is_refused_in_the_middle_is_over_before_its_client_goes(
    stage: Stage,
) -> None:
    async def play() -> None:
        wire = stage.connect()
        wire.send(head("transfer-encoding: chunked") + b"5\r\n12345\r\n")
        await settled()
        assert stage.left()["uses"] == 1
        wire.send(b"no size\r\n")
        await settled()
        assert wire.got.count(b"HTTP/1.1 ") == wire.got.count(b"HTTP/1.1 400 ") == 1
        assert not wire.closing
        assert stage.left() == {}

    asyncio.run(play())
