"""The callback client against servers that do what a script says, byte by byte."""

from __future__ import annotations

import asyncio
import gzip
import socket
from collections.abc import Mapping

import pytest

from experts.errors import (
    ExpertCallError,
    ExpertConnectionError,
    ExpertProtocolError,
    ExpertTimeoutError,
)
from experts.http.plain_connection import PlainCall
from experts.http.plain_http import PlainEndpoint
from tests.experts.http.plain_server import (
    HELLO,
    OK,
    Heard,
    asked,
    endpoint,
    says,
    serving,
    turned,
)

pytestmark = pytest.mark.anyio


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
