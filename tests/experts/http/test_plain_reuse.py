"""Which connections the callback client uses again, and which it must not."""

from __future__ import annotations

import asyncio

import pytest

from experts.errors import ExpertConnectionError
from experts.http.plain_connection import Connection
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
