"""Clients that keep us waiting, send too much, or never read; over real sockets."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import orjson
import pytest

from experts.base import Expert
from experts.cards import ExpertCard
from experts.fakes.provider import FakeProvider, Reply
from experts.fakes.scripted import ScriptedExpert, says
from experts.fakes.server import Act, FakeServer, ReceivedRequest, chunk, event, whole
from experts.fakes.server import head as reply_head
from experts.fakes.server import serving as fake
from gateway.server.connection_limits import Untaken
from tests.conftest import Serve, Served
from tests.gateway.raw import CHAT, Line, chat, head, line, post, until

BOTH_PATHS = pytest.mark.parametrize("fast_path", [True, False])
QUICK = {"head_s": 0.3, "body_s": 0.3, "write_s": 0.3, "keep_alive_s": 0.3}


def serving(serve: Serve, **sections: Any) -> Served:
    return serve({"a": ScriptedExpert(ExpertCard("a"), says("Hello"))}, **sections)


def still_serves(served: Served) -> None:
    assert served.ask("a").status_code == 200


def test_a_head_that_does_not_come_to_an_end_is_a_408(serve: Serve) -> None:
    served = serving(serve, server=QUICK)
    with line(served.url) as client:
        client.send(f"POST {CHAT} HTTP/1.1\r\nhost: 127.0.0.1\r\nx".encode())
        assert client.error() == (408, "too_slow")
        assert client.closed()
    still_serves(served)


def test_a_head_that_comes_byte_by_byte_is_a_408_too(serve: Serve) -> None:
    served = serving(serve, server=QUICK)
    with line(served.url) as client:
        client.socket.settimeout(0.05)
        sent = 0
        with pytest.raises(OSError):  # noqa: PT011, PT012 - closed, in one of several ways
            for byte in (head() + b"x" * 10_000)[:-1]:
                client.send(bytes([byte]))
                sent += 1
                dripped(client)
        assert sent < 1_000
    still_serves(served)


def dripped(client: Line) -> None:
    """Waits a while for an answer that should not come yet."""
    try:
        if client.socket.recv(1, socket.MSG_PEEK) == b"":
            raise ConnectionError
    except TimeoutError:
        return
    assert client.error() == (408, "too_slow")
    raise ConnectionError


@pytest.mark.parametrize("length", ["content-length: 1000", "transfer-encoding: chunked"])
def test_a_body_that_does_not_come_to_an_end_is_a_408(serve: Serve, length: str) -> None:
    served = serving(serve, server=QUICK)
    with line(served.url) as client:
        client.send(head(length) + b"5\r\n12345\r\n")
        assert client.error() == (408, "too_slow")
        assert client.closed()
    still_serves(served)
    assert "pointsman_requests_in_flight 0.0" in served.client.get("/metrics").text


@pytest.mark.parametrize("sent", [b"", b"\r\n\r\n"])
def test_a_connection_that_asks_nothing_is_closed(serve: Serve, sent: bytes) -> None:
    served = serving(serve, server=QUICK)
    with line(served.url) as client:
        client.send(sent)
        assert client.closed()


def test_a_connection_is_closed_some_time_after_its_last_answer(serve: Serve) -> None:
    served = serving(serve, server=QUICK)
    with line(served.url) as client:
        for _ in range(2):
            client.send(post(chat()))
            assert client.status() == 200
        assert client.closed()


class Held(FakeServer):
    """Answers when it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.release = threading.Event()

    def acts(self, asked: ReceivedRequest) -> Iterator[Act]:
        self.release.wait(timeout=30)
        message = {"role": "assistant", "content": "Hello"}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        yield whole(200, {"choices": choices}, {})


@BOTH_PATHS
def test_a_request_that_takes_its_time_to_be_answered_is_not_cut_off(
    serve: Serve, fast_path: bool, remote: Callable[..., Expert]
) -> None:
    with fake(Held()) as provider:
        server = {**QUICK, "fast_path": fast_path}
        served = serve({"a": remote("a", provider.url)}, server=server)
        with line(served.url) as client, line(served.url) as other:
            client.send(post(chat()))
            other.send(b"G")
            # The sweep that gives up what has only begun has looked at both.
            assert other.error() == (408, "too_slow")
            provider.release.set()
            assert client.status() == 200


def streams(stack: ExitStack, served: Served, count: int) -> list[Line]:
    """Connections whose streams have begun and will not end."""
    clients = [stack.enter_context(line(served.url)) for _ in range(count)]
    for client in clients:
        client.send(post(chat(stream=True)))
        while b"data:" not in client.got:
            assert client.more()
    return clients


@BOTH_PATHS
def test_where_no_more_connections_fit_idle_ones_make_room(
    serve: Serve, fast_path: bool, provider: FakeProvider, remote: Callable[..., Expert]
) -> None:
    provider.otherwise = Reply(stall_after=1)
    server = {"max_connections": 16, "fast_path": fast_path}
    served = serve({"a": remote("a", provider.url)}, server=server)
    with ExitStack() as stack:
        busy = streams(stack, served, 4)
        idle = [stack.enter_context(line(served.url)) for _ in range(40)]
        for client in idle[:20]:
            assert client.closed()
        idle[-1].send(head(method="GET", path="/health/live"))
        assert idle[-1].status() == 200
        for client in busy:
            client.socket.setblocking(False)
            with pytest.raises(BlockingIOError):
                client.socket.recv(1)


@BOTH_PATHS
def test_where_all_connections_are_busy_a_new_one_is_refused(
    serve: Serve, fast_path: bool, provider: FakeProvider, remote: Callable[..., Expert]
) -> None:
    provider.otherwise = Reply(stall_after=1)
    server = {"max_connections": 16, "fast_path": fast_path}
    served = serve({"a": remote("a", provider.url)}, server=server)
    with ExitStack() as stack:
        streams(stack, served, 16)
        with line(served.url) as late:
            assert late.error() == (503, "too_many_connections")
            assert late.closed()
    still_answers(served)


def still_answers(served: Served) -> None:
    """Once connections that were left are gone, there is room again."""

    def live() -> bool:
        with line(served.url) as client:
            client.send(head(method="GET", path="/health/live"))
            return client.status() == 200

    until(live)


def test_a_head_beyond_the_limit_is_a_431(serve: Serve) -> None:
    served = serving(serve, server={"max_head_bytes": 4096})
    for padding in (f"x-long: {'x' * 5000}", f"x-long: {'x' * 200_000}"):
        with line(served.url) as client:
            client.send(head(padding))
            assert client.error() == (431, "head_too_large")
            assert client.closed()
    with line(served.url) as client:
        client.send(head(path=f"{CHAT}?{'x' * 5000}"))
        assert client.error() == (431, "head_too_large")
    with line(served.url) as client:
        client.send(f"POST {CHAT} HTTP/1.1\r\nhost: 127.0.0.1\r\nx-long: {'x' * 5000}".encode())
        assert client.error() == (431, "head_too_large")
    with line(served.url) as client:
        client.send(post(chat(user="x" * 100_000), f"x-long: {'x' * 3000}"))
        assert client.status() == 200


def test_too_many_headers_are_a_431(serve: Serve) -> None:
    served = serving(serve, server={"max_headers": 20})
    with line(served.url) as client:
        client.send(head(*(f"x-{number}: y" for number in range(30))))
        assert client.error() == (431, "headers")
        assert client.closed()


@pytest.mark.parametrize("tail", [b"0\r\nx: " + b"y" * 200_000, b"1;" + b"y" * 200_000])
def test_what_is_neither_head_nor_body_is_bounded_too(serve: Serve, tail: bytes) -> None:
    served = serving(serve)
    with line(served.url) as client:
        client.send(head("transfer-encoding: chunked") + b"5\r\n12345\r\n" + tail)
        assert client.error() == (431, "head_too_large")


def test_trailers_are_no_headers(serve: Serve) -> None:
    served = serving(serve, keys=[{"name": "k", "key": "long-enough-secret"}])
    body = chat()
    chunks = b"%x\r\n%s\r\n0\r\nauthorization: Bearer long-enough-secret\r\n\r\n"
    with line(served.url) as client:
        client.send(head("transfer-encoding: chunked") + chunks % (len(body), body))
        assert client.status() == 401


def test_a_pipeline_is_answered_in_order(serve: Serve) -> None:
    served = serving(serve)
    with line(served.url) as client:
        client.send(b"".join(post(chat(), f"x-request-id: ask-{n}-of-8") for n in range(8)))
        answers = [client.answer() for _ in range(8)]
    assert [status for status, _, _ in answers] == [200] * 8
    assert [found["x-request-id"] for _, found, _ in answers] == [f"ask-{n}-of-8" for n in range(8)]


def test_a_pipeline_is_no_way_to_fill_the_memory(serve: Serve) -> None:
    served = serving(serve)
    with line(served.url) as client:
        client.send(head(method="GET", path="/health/live") * 5_000)
        assert client.rest().count(b"HTTP/1.1 ") < 5_000
    still_serves(served)


@BOTH_PATHS
def test_who_pipelines_and_leaves_is_missed(
    serve: Serve, fast_path: bool, provider: FakeProvider, remote: Callable[..., Expert]
) -> None:
    provider.script.append(Reply(stall_after=1))
    served = serve({"a": remote("a", provider.url)}, server={"fast_path": fast_path})
    with line(served.url) as client:
        client.send(post(chat(stream=True)) + post(chat()))
        assert provider.stalled.wait(timeout=30)
    assert provider.left.wait(timeout=30)
    assert served.verified().faults == ()


@BOTH_PATHS
def test_garbage_behind_a_request_spoils_no_answer(
    serve: Serve, fast_path: bool, provider: FakeProvider, remote: Callable[..., Expert]
) -> None:
    provider.script.append(Reply(stall_after=1))
    served = serve({"a": remote("a", provider.url)}, server={"fast_path": fast_path})
    with line(served.url) as client:
        client.send(post(chat(stream=True)))
        while b"data:" not in client.got:
            assert client.more()
        client.send(b"\0\0 garbage \r\n\r\n")
        assert client.rest().count(b"HTTP/1.1") == 1
    assert provider.left.wait(timeout=30)


class Endless(FakeServer):
    """Streams for as long as somebody reads; `sent` counts the bytes."""

    sent = 0

    def acts(self, asked: ReceivedRequest) -> Iterator[Act]:
        yield reply_head(200, {"content-type": "text/event-stream"}, None)
        delta = {"content": "x" * 50_000}
        piece = chunk(event({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}))
        while True:
            self.sent += len(piece)
            yield piece


@BOTH_PATHS
def test_a_client_that_reads_nothing_is_dropped_and_its_call_ended(
    serve: Serve, fast_path: bool, remote: Callable[..., Expert]
) -> None:
    with fake(Endless()) as provider:
        server = {**QUICK, "fast_path": fast_path}
        served = serve({"a": remote("a", provider.url)}, server=server)
        with line(served.url) as client:
            client.send(post(chat(stream=True)))
            until(lambda: provider.connections == 1 and provider.open == 0)
            # What the sockets hold, and no more: nobody read ahead.
            assert provider.sent < 40_000_000
    verdict = served.verified()
    assert verdict.faults == ()
    assert [row["status"] for row in served.gateway.reader.recent(1)] == [499]


def test_a_client_that_reads_slowly_is_not_dropped() -> None:
    untaken = Untaken()
    left = 1_000_000
    for second in range(0, 600, 10):
        assert untaken.for_s(left, second) <= 10
        left -= 16_384
    assert untaken.for_s(left + 16_384 - 100, 610) == 20
    assert untaken.for_s(left + 16_384 - 200, 640) == 50
    assert untaken.for_s(0, 650) == 0
    assert untaken.for_s(1, 660) == 0
    untaken.reset()
    assert untaken.for_s(1, 700) == 0


def test_deep_json_is_a_400(
    serve: Serve, provider: FakeProvider, remote: Callable[..., Expert]
) -> None:
    served = serve({"a": remote("a", provider.url)})
    depth = 100_000
    for body in (
        b"[" * depth,
        b"[" * depth + b"]" * depth,
        b'{"a":' * depth,
        b'{"model":"a","messages":' + b"[" * depth + b"]" * depth + b"}",
        chat()[:-1] + b',"metadata":' + b"[" * 900 + b"]" * 900 + b"}",
    ):
        answer = served.client.post(CHAT, content=body)
        assert answer.status_code == 400, body[:40]
        assert orjson.loads(answer.content)["error"]["message"]
    still_serves(served)
