"""A gateway that is told to stop with requests under way: finished or told so, and booked."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import orjson
import pytest

from experts.fakes.server import (
    LAST_CHUNK,
    Act,
    FakeServer,
    ReceivedRequest,
    Then,
    chunk,
    event,
    head,
    whole,
)
from experts.fakes.server import serving as fake
from gateway.ledger.database import opened
from gateway.ledger.queries import LedgerReader
from tests.gateway.raw import CHAT, Line, chat, line, post
from tests.journeys.test_serve import config_in, serving, verdict_in


class Slow(FakeServer):
    """Streams a token; the rest, and any whole answer, comes when it is released, if ever."""

    def __init__(self) -> None:
        super().__init__()
        self.release = threading.Event()

    def acts(self, asked: ReceivedRequest) -> Iterator[Act]:
        if not asked.body.get("stream"):
            yield Then.STALL
        yield head(200, {"content-type": "text/event-stream"}, None) + piece("Hel")
        while not self.release.is_set():
            # A moment at a time: other connections are served by the same thread.
            yield 0.01
        yield piece("lo") + piece("", "stop") + chunk(event("[DONE]")) + LAST_CHUNK


def piece(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return chunk(event({"choices": [choice]}))


def begun(client: Line, body: bytes, path: str = CHAT) -> None:
    client.send(post(body, path=path))
    while b"Hel" not in client.got:
        assert client.more()


def rows_in(folder: Path) -> list[dict[str, Any]]:
    with opened(f"sqlite:///{folder}/ledger.db") as engine:
        return LedgerReader(engine).recent(100)


WAYS = pytest.mark.parametrize(("workers", "fast_path"), [("1", True), ("1", False), ("2", True)])


@WAYS
def test_streams_that_end_in_time_are_complete(
    tmp_path: Path, workers: str, fast_path: bool
) -> None:
    with fake(Slow()) as provider, ExitStack() as stack:
        config = config_in(tmp_path, provider, server={"grace_s": 30, "fast_path": fast_path})
        url, process = stack.enter_context(serving(config, "--workers", workers))
        clients = [stack.enter_context(line(url)) for _ in range(6)]
        for client in clients:
            begun(client, chat(model="small", stream=True))
        process.send_signal(signal.SIGTERM)
        provider.release.set()
        for client in clients:
            assert client.answer()[2].endswith(b"data: [DONE]\n\n")
            assert client.closed()
        assert process.wait(timeout=30) in (0, -signal.SIGTERM)
    assert verdict_in(tmp_path).faults == ()
    assert [row["status"] for row in rows_in(tmp_path)] == [200] * 6


@pytest.mark.parametrize("workers", ["1", "2"])
def test_who_comes_then_is_refused_at_once(tmp_path: Path, workers: str) -> None:
    with fake(Slow()) as provider, ExitStack() as stack:
        config = config_in(tmp_path, provider, server={"grace_s": 60})
        url, process = stack.enter_context(serving(config, "--workers", workers))
        client = stack.enter_context(line(url))
        begun(client, chat(model="small", stream=True))
        process.send_signal(signal.SIGTERM)
        until = time.monotonic() + 20
        while not refused(url) and time.monotonic() < until:
            pass
        assert refused(url), "not left to wait for the end of others"
        provider.release.set()
        assert client.answer()[2].endswith(b"data: [DONE]\n\n")
        assert process.wait(timeout=30) in (0, -signal.SIGTERM)


def refused(url: str) -> bool:
    try:
        with line(url) as client:
            client.socket.settimeout(0.2)
            return not client.socket.recv(1)
    except TimeoutError:
        return False
    except ConnectionError:
        return True


RESPONSES = orjson.dumps({"model": "small", "input": "Hi", "stream": True})
MESSAGES = orjson.dumps(
    {
        "model": "small",
        "stream": True,
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "Hi"}],
    }
)


@WAYS
def test_streams_that_do_not_are_told_so_in_their_own_words(
    tmp_path: Path, workers: str, fast_path: bool
) -> None:
    with fake(Slow()) as provider, ExitStack() as stack:
        config = config_in(tmp_path, provider, server={"grace_s": 0.2, "fast_path": fast_path})
        url, process = stack.enter_context(serving(config, "--workers", workers))
        clients = [stack.enter_context(line(url)) for _ in range(4)]
        begun(clients[0], chat(model="small", stream=True))
        begun(clients[1], RESPONSES, "/v1/responses")
        begun(clients[2], MESSAGES, "/v1/messages")
        clients[3].send(post(chat(model="small")))
        assert provider.stalled.wait(timeout=30)
        process.send_signal(signal.SIGTERM)
        for client in clients[:3]:
            _, _, body = client.answer()
            last = body.strip().rpartition(b"\n\n")[2]
            assert b"shutting" in last
            assert b"error" in last
            assert b"[DONE]" not in body
        while clients[3].more():
            pass
        assert clients[3].got.lower().count(b"connection: close") == 1
        assert clients[3].error() == (503, "shutting_down")
        assert all(client.closed() for client in clients)
        assert process.wait(timeout=30) in (0, -signal.SIGTERM)
    assert verdict_in(tmp_path).faults == ()
    assert verdict_in(tmp_path).open_attempts == 0
    assert [row["status"] for row in rows_in(tmp_path)] == [503] * 4


def test_a_client_that_does_not_read_holds_nobody_up(tmp_path: Path) -> None:
    with fake(Flood()) as provider, ExitStack() as stack:
        config = config_in(tmp_path, provider, server={"grace_s": 0.2})
        url, process = stack.enter_context(serving(config))
        client = stack.enter_context(line(url))
        client.send(post(chat(model="small", stream=True)))
        assert provider.full.wait(timeout=30)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) in (0, -signal.SIGTERM)
    assert verdict_in(tmp_path).faults == ()
    assert verdict_in(tmp_path).open_attempts == 0


class Flood(FakeServer):
    """Streams more than sockets hold; `full` is set when enough was taken that nobody reads."""

    def __init__(self) -> None:
        super().__init__()
        self.full = threading.Event()

    def acts(self, asked: ReceivedRequest) -> Iterator[Act]:
        yield head(200, {"content-type": "text/event-stream"}, None)
        for number in range(4_000):
            if number == 100:
                self.full.set()
            yield piece("x" * 50_000)


def test_whole_answers_too(tmp_path: Path) -> None:
    with fake(Prompt()) as provider, ExitStack() as stack:
        config = config_in(tmp_path, provider, server={"grace_s": 30})
        url, process = stack.enter_context(serving(config))
        client = stack.enter_context(line(url))
        client.send(post(chat(model="small")))
        assert provider.asked.wait(timeout=30)
        process.send_signal(signal.SIGTERM)
        provider.release.set()
        assert client.status() == 200
        assert client.closed()
    assert [row["status"] for row in rows_in(tmp_path)] == [200]


class Prompt(FakeServer):
    """Gives a whole answer when it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()
        self.release = threading.Event()

    def acts(self, asked: ReceivedRequest) -> Iterator[Act]:
        self.asked.set()
        while not self.release.is_set():
            yield 0.01
        message = {"role": "assistant", "content": "Hello"}
        yield whole(200, {"choices": [{"message": message, "finish_reason": "stop"}]}, {})
