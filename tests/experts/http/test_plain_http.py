"""The callback client against servers that do what a script says, byte by byte."""

from __future__ import annotations

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import pytest

from experts.errors import (
    ExpertCallError,
    ExpertConnectionError,
    ExpertProtocolError,
    ExpertTimeoutError,
)
from experts.http.plain_connection import Connection, PlainCall
from experts.http.plain_http import PlainEndpoint

pytestmark = pytest.mark.anyio
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n"
HELLO = OK + b"content-length: 5\r\n\r\nhello"


class Heard:
    """Remembers what a call brought."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self.pieces: list[bytes] = []
        self.error: ExpertCallError | None = None
        self.began = asyncio.Event()
        self.ended = asyncio.Event()
        self.ends = 0

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    def on_whole(self, headers: Mapping[str, str], body: bytes) -> None:
        self.on_head(200, headers)
        self.on_data(body)
        self.on_end()

    def on_head(self, status: int, headers: Mapping[str, str]) -> None:
        self.status, self.headers = status, headers

    def on_data(self, data: bytes) -> None:
        self.pieces.append(data)
        self.began.set()

    def on_end(self) -> None:
        self.ends += 1
        self.ended.set()

    def on_broken(self, error: ExpertCallError) -> None:
        self.error = error
        self.on_end()


class Server:
    """A server on the loopback address.

    Attributes:
        requests: Heads and bodies as they came.
        connections: How many were made.
        gone: Set when a client has closed its connection.
    """

    def __init__(self, script: Script) -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self.gone = asyncio.Event()
        self.url = ""
        self._script = script

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                self.requests.append(head + await reader.readexactly(length))
                await self._script(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.gone.set()
        finally:
            writer.close()


@asynccontextmanager
async def serving(script: Script) -> AsyncIterator[Server]:
    server = Server(script)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1"
    try:
        yield server
    finally:
        listening.close()


def says(*pieces: bytes, close: bool = False) -> Script:
    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        if close:
            writer.close()

    return script


def endpoint(url: str, connect_s: float = 5.0) -> PlainEndpoint:
    return PlainEndpoint("x", url, "chat/completions", {"authorization": "Bearer k"}, connect_s)


async def turned(done: Callable[[], bool]) -> None:
    """Let the event loop turn until it is so."""
    for _ in range(100_000):
        if done():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never was")


async def asked(place: PlainEndpoint, body: bytes = b"{}") -> Heard:
    heard = Heard()
    place.send(body, {"traceparent": "t"}, heard)
    async with asyncio.timeout(10):
        await heard.ended.wait()
    return heard


async def test_a_call_says_what_it_should_and_gets_the_answer() -> None:
    async with serving(says(HELLO)) as server:
        heard = await asked(endpoint(server.url), b'{"a":1}')
    assert (heard.status, heard.body, heard.error) == (200, b"hello", None)
    assert heard.headers["content-type"] == "text/plain"
    head, body = server.requests[0].split(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /v1/chat/completions HTTP/1.1"
    assert {b"authorization: Bearer k", b"traceparent: t", b"content-length: 7"} <= set(lines)
    assert body == b'{"a":1}'


@pytest.mark.parametrize("rest", [b"0\r\n\r\n", b"not HTTP", b""])
async def test_chunks_that_come_together_are_handed_over_together_whatever_follows(
    rest: bytes,
) -> None:
    begun = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    async with serving(says(begun + b"1\r\na\r\n2\r\nbc\r\n" + rest, close=True)) as server:
        heard = await asked(endpoint(server.url))
    assert heard.pieces == [b"abc"]
    assert (heard.error is None) is rest.startswith(b"0")


async def test_a_connection_is_used_again_and_several_at_a_time_get_their_own() -> None:
    async with serving(says(HELLO)) as server:
        place = endpoint(server.url)
        for _ in range(3):
            await asked(place)
        assert server.connections == place.connections == 1
        heard = [Heard() for _ in range(4)]
        for each in heard:
            place.send(b"{}", {}, each)
        for each in heard:
            await each.ended.wait()
        assert place.connections == 4
        await place.aclose()
        assert place.connections == 0


async def test_a_connection_that_the_server_closed_meanwhile_is_not_used() -> None:
    async with serving(says(HELLO, close=True)) as server:
        place = endpoint(server.url)
        await asked(place)
        await turned(lambda: not place.connections)
        assert (await asked(place)).body == b"hello"
        assert server.connections == 2


@pytest.mark.parametrize(
    "behind", [HELLO, HELLO[:1], b"nonsense"], ids=["an answer", "a byte of one", "nonsense"]
)
async def test_what_comes_behind_an_answer_is_given_to_nobody(behind: bytes) -> None:
    async with serving(says(OK + b"content-length: 5\r\n\r\nright" + behind)) as server:
        place = endpoint(server.url)
        for _ in range(3):
            heard = await asked(place)
            assert (heard.body, heard.error, heard.ends) == (b"right", None, 1)
            assert (place.connections, len(place._idle)) == (0, 0)
        assert server.connections == 3


async def test_what_comes_behind_an_answer_is_not_for_a_call_made_as_it_ends() -> None:
    first = OK + b"content-length: 5\r\n\r\nfirst"
    answers = [first + HELLO.replace(b"hello", b"false"), HELLO]

    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answers.pop(0))

    async with serving(script) as server:
        place, heard, then = endpoint(server.url), Heard(), Heard()

        def go_on() -> None:
            place.send(b"{}", {}, then)

        # Within the callback that ends the first.
        heard.ended.set = go_on  # type: ignore[method-assign]
        place.send(b"{}", {}, heard)
        async with asyncio.timeout(10):
            await then.ended.wait()
    assert (heard.body, then.body) == (b"first", b"hello")


async def test_an_answer_that_comes_late_and_unasked_closes_its_connection() -> None:
    late = asyncio.Event()

    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HELLO)
        await late.wait()
        writer.write(HELLO.replace(b"hello", b"false"))

    async with serving(script) as server:
        place = endpoint(server.url)
        heard = [Heard() for _ in range(4)]
        for each in heard:
            place.send(b"{}", {}, each)
        for each in heard:
            await each.ended.wait()
        assert len(place._idle) == len(set(place._idle)) == 4
        late.set()
        await turned(lambda: not place.connections)
        assert (await asked(place)).body == b"hello"


async def test_a_call_given_up_at_its_head_leaves_no_connection_behind() -> None:
    async with serving(says(HELLO)) as server:
        place, heard = endpoint(server.url), Heard()
        call = place.send(b"{}", {}, heard)
        # Within the callback: all of the answer is there already.
        heard.on_head = lambda status, headers: call.cancel()  # type: ignore[method-assign]
        await turned(lambda: bool(server.requests) and not place.connections)
        assert not place._idle
        assert (await asked(place)).body == b"hello"


async def test_a_connection_paused_at_the_end_of_an_answer_is_read_by_the_next_call() -> None:
    async with serving(says(HELLO)) as server:
        place, heard = endpoint(server.url), Heard()
        call = place.send(b"{}", {}, heard)
        heard.began.set = call.pause  # type: ignore[method-assign]
        await heard.ended.wait()
        assert (await asked(place)).body == b"hello"
        assert server.connections == 1


async def test_a_connection_lost_before_it_is_used_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(_: PlainEndpoint, connection: Connection) -> None:
        connection.connection_lost(ConnectionResetError())

    monkeypatch.setattr(PlainEndpoint, "opened", opened)
    async with serving(says(HELLO)) as server:
        heard = await asked(endpoint(server.url))
    assert type(heard.error) is ExpertConnectionError
    assert heard.ends == 1


async def test_one_that_has_been_idle_for_long_is_closed_instead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serving(says(HELLO)) as server:
        place = endpoint(server.url)
        await asked(place)
        monkeypatch.setattr("experts.http.plain_http._IDLE_S", -1.0)
        await asked(place)
        assert server.connections == 2
        assert place.connections == 1


@pytest.mark.parametrize(
    "pieces",
    [
        [OK + b"transfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"],
        [bytes([byte]) for byte in HELLO],
        [b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n", HELLO],
        [OK + b"content-encoding: gzip\r\ncontent-length: 25\r\n\r\n", gzip.compress(b"hello")],
        [OK + b"content-encoding: gzip\r\ncontent-length: 5\r\n\r\nhello"],
    ],
    ids=["chunked", "byte by byte", "interim heads", "packed", "not packed"],
)
async def test_answers_come_in_many_ways(pieces: list[bytes]) -> None:
    async with serving(says(*pieces)) as server:
        place = endpoint(server.url)
        assert (await asked(place)).body == b"hello"
        assert (await asked(place)).body == b"hello"
        assert server.connections == 1


async def test_without_a_length_the_end_of_the_connection_ends_the_body() -> None:
    async with serving(says(OK + b"\r\nhello", close=True)) as server:
        place = endpoint(server.url)
        heard = await asked(place)
        assert (heard.body, heard.error, heard.ends) == (b"hello", None, 1)
        assert (await asked(place)).body == b"hello"
        assert server.connections == 2


@pytest.mark.parametrize(
    ("pieces", "kind"),
    [
        ([], ExpertConnectionError),
        ([b"HTTP/1.1 200 OK\r\ncontent-"], ExpertConnectionError),
        ([b"nonsense\r\n\r\n"], ExpertConnectionError),
        ([OK + b"content-length: 9\r\n\r\nhello"], ExpertProtocolError),
        ([OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"], ExpertProtocolError),
        ([OK + b"transfer-encoding: chunked\r\n\r\nzz\r\nhello\r\n"], ExpertProtocolError),
        (
            [OK + b"content-encoding: gzip\r\ncontent-length: 5\r\n\r\n\x1fello"],
            ExpertProtocolError,
        ),
        ([OK + b"x: " + b"y" * 70_000 + b"\r\n\r\n"], ExpertConnectionError),
        (
            [b"HTTP/1.1 101 Go On\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n"],
            ExpertConnectionError,
        ),
    ],
    ids=[
        "nothing",
        "half a head",
        "no HTTP",
        "short",
        "cut",
        "bad chunk",
        "badly packed",
        "long head",
        "another protocol",
    ],
)
async def test_what_breaks_is_told_once(pieces: list[bytes], kind: type[ExpertCallError]) -> None:
    async with serving(says(*pieces, close=True)) as server:
        place = endpoint(server.url)
        heard = await asked(place)
        assert type(heard.error) is kind
        assert heard.ends == 1
        assert place.connections == 0


async def test_a_refused_connection_is_told() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    heard = await asked(endpoint(f"http://127.0.0.1:{port}/v1"))
    assert type(heard.error) is ExpertConnectionError


@pytest.mark.parametrize("name", ["a..b", "a" * 64])
async def test_a_name_that_none_can_have_is_told(name: str) -> None:
    heard = await asked(endpoint(f"http://{name}/v1"))
    assert type(heard.error) is ExpertConnectionError


async def test_a_connection_that_does_not_come_is_given_up() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        # What a listener that accepts nobody holds is soon full: the next one waits.
        crowd = [socket.socket() for _ in range(4)]
        for each in crowd:
            each.setblocking(False)
            each.connect_ex(address)
        heard = await asked(endpoint(f"http://127.0.0.1:{address[1]}/v1", connect_s=0.05))
        for each in crowd:
            each.close()
    assert type(heard.error) is ExpertTimeoutError


async def test_giving_up_closes_the_connection_and_nothing_more_is_heard() -> None:
    async with serving(says(OK + b"content-length: 9\r\n\r\nhello")) as server:
        place, heard = endpoint(server.url), Heard()
        call: PlainCall = place.send(b"{}", {}, heard)
        await heard.began.wait()
        call.cancel()
        await server.gone.wait()
        assert place.connections == 0
        assert heard.ends == 0


async def test_giving_up_while_connecting_keeps_the_connection_for_the_next() -> None:
    async with serving(says(HELLO)) as server:
        place, heard = endpoint(server.url), Heard()
        place.send(b"{}", {}, heard).cancel()
        assert (await asked(place)).body == b"hello"
        assert (heard.ends, len(server.requests)) == (0, 1)


@pytest.mark.parametrize("paused", [False, True])
async def test_who_has_heard_enough_leaves_a_connection_that_is_used_again(paused: bool) -> None:
    chunked = OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"
    async with serving(says(chunked, b"0\r\n\r\n")) as server:
        place, heard = endpoint(server.url), Heard()
        call = place.send(b"{}", {}, heard)

        def enough() -> None:
            if paused:
                call.pause()
            call.detach()

        # As soon as a byte came, within the callback: the end is still to come.
        heard.began.set = enough  # type: ignore[method-assign]
        await turned(lambda: bool(place._idle))
        assert (heard.body, heard.ends) == (b"hello", 0)
        assert (await asked(place)).body == b"hello"
        assert server.connections == 1


async def test_nothing_is_read_while_the_reader_is_behind() -> None:
    written = asyncio.Event()

    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK + b"content-length: 50000000\r\n\r\n")
        for _turn in range(50):
            writer.write(b"x" * 1_000_000)
            await writer.drain()
        written.set()

    async with serving(script) as server:
        place, heard = endpoint(server.url), Heard()
        call = place.send(b"{}", {}, heard)
        await heard.began.wait()
        call.pause()
        before = len(heard.body)
        # The server goes on until all buffers between are full, and no further.
        for _ in range(200):
            await asyncio.sleep(0)
        assert not written.is_set()
        assert len(heard.body) == before
        call.resume()
        await heard.ended.wait()
        assert len(heard.body) == 50_000_000


class HeardWhole(Heard):
    """Remembers also whether an answer came all at once."""

    def __init__(self) -> None:
        super().__init__()
        self.at_once = False

    def on_whole(self, headers: Mapping[str, str], body: bytes) -> None:
        self.at_once = True
        super().on_whole(headers, body)


async def whole(place: PlainEndpoint) -> HeardWhole:
    heard = HeardWhole()
    place.send(b"{}", {}, heard)
    async with asyncio.timeout(10):
        await heard.ended.wait()
    return heard


async def test_a_head_like_the_last_one_is_not_parsed_again() -> None:
    longer = HELLO.replace(b"5", b"11").replace(b"hello", b"hello again")
    other = longer.replace(b"text/plain", b"text/html").replace(b"200 OK", b"429 Slow")
    answers = [HELLO, longer, HELLO, other, HELLO]

    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answers.pop(0))

    async with serving(script) as server:
        place = endpoint(server.url)
        heard = [await whole(place) for _ in range(5)]
        assert server.connections == 1
    assert [each.at_once for each in heard] == [False, True, True, False, True]
    assert [each.status for each in heard] == [200, 200, 200, 429, 200]
    assert [each.body for each in heard] == [b"hello", b"hello again"] * 2 + [b"hello"]
    assert [each.headers["content-type"] for each in heard[2:4]] == ["text/plain", "text/html"]
