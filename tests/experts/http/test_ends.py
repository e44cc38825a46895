"""However a call over the ordinary client ends, nothing of it is left behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import anyio
import httpx2
import pytest

from experts.base import Call
from experts.cards import ExpertCard
from experts.errors import (
    ExpertCallError,
    ExpertConnectionError,
    ExpertProtocolError,
    ExpertUnavailableError,
)
from experts.http.breaker import BreakerRules, BreakerState
from experts.http.connecting import ConnectTurn
from experts.http.openai_compatible import OpenAICompatibleExpert
from experts.messages import ChatRequest, Event, Finish, Message
from tests.experts.http.plain_rig import Loop

pytestmark = pytest.mark.anyio
URLS = ["http://a/v1", "http://b/v1"]
Piece = bytes | Exception | None
WHOLE = b'{"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}'
BEGUN = b'data: {"choices": [{"delta": {"content": "H"}}]}\n\n'
ENDED = b'data: {"choices": [{"delta": {"content": "i"}, "finish_reason": "stop"}]}\n\n'
CUT = httpx2.ReadError("reset")
WAYS: dict[str, tuple[int, list[Piece], type[ExpertCallError] | None]] = {
    "whole": (200, [WHOLE[:9], WHOLE[9:]], None),
    "stream": (200, [BEGUN, ENDED, b"data: [DONE]\n\n"], None),
    "stream, cut behind its end": (200, [BEGUN, ENDED, CUT], None),
    "refused": (500, [b'{"error": {}}'], ExpertUnavailableError),
    "refused, cut": (500, [b'{"error"', CUT], ExpertUnavailableError),
    "cut": (200, [WHOLE[:9], CUT], ExpertProtocolError),
    "stream, cut": (200, [BEGUN, CUT], ExpertProtocolError),
    "badly packed": (200, [b"\x1f\x8b, not so"], ExpertProtocolError),
    "no head": (0, [], ExpertConnectionError),
}


class Body(httpx2.AsyncByteStream):
    """Gives piece after piece, each a turn later; None: it hangs."""

    def __init__(self, pieces: list[Piece]) -> None:
        self._pieces = pieces
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            await anyio.lowlevel.checkpoint()
            if piece is None:
                await anyio.sleep_forever()
            elif isinstance(piece, Exception):
                raise piece
            else:
                yield piece

    async def aclose(self) -> None:
        self.closed = True


class Place(httpx2.AsyncBaseTransport):
    """Every server there is; status 0 is none."""

    def __init__(self, status: int, pieces: list[Piece]) -> None:
        self._status, self._pieces = status, pieces
        self.bodies: list[Body] = []
        self.asked: list[str] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(request.url.host)
        await anyio.lowlevel.checkpoint()
        if not self._status:
            raise httpx2.ConnectError("nobody there")
        self.bodies.append(Body(self._pieces))
        packed = self._pieces[0] is not None and self._pieces[0] not in (WHOLE, BEGUN)
        headers = {"content-encoding": "gzip"} if packed else {}
        return httpx2.Response(self._status, stream=self.bodies[-1], headers=headers)


class Rig:
    """An expert of two endpoints, each with one turn to connect and little patience."""

    def __init__(self, way: str, *, hangs: bool = False, failures: int = 1) -> None:
        status, pieces, self.error = WAYS[way]
        self.place = Place(status, [*pieces[:1], None] if hangs else pieces)
        rules = BreakerRules(failures=failures, open_s=100.0, max_open_s=100.0)
        card = ExpertCard("e")
        self.expert = OpenAICompatibleExpert(card, URLS, "m", transport=self.place, rules=rules)
        self.turns = {url: anyio.Semaphore(1) for url in URLS}
        self.expert._connecting = self.turns
        self.events: list[Event] = []

    async def ask(self, most: int | None = None) -> None:
        request = ChatRequest((Message("user", "Hi"),), stream=True)
        async with aclosing(self.expert.answer(request, Call(None))) as events:  # type: ignore[arg-type]
            async for event in events:
                self.events.append(event)
                if len(self.events) == most:
                    return

    async def left(self) -> int:
        """Checks that nothing is; returns how many endpoints were found to fail."""
        assert [one.load for one in self.expert.endpoints] == [0, 0]
        assert [turn.value for turn in self.turns.values()] == [1, 1]
        assert all(body.closed for body in self.place.bodies)
        await self.expert.aclose()
        breakers = [one.breaker for one in self.expert.endpoints]
        return sum(each is not None and each.state is BreakerState.OPEN for each in breakers)


@pytest.mark.parametrize("way", WAYS)
async def test_one_that_ends_by_itself(way: str) -> None:
    rig = Rig(way)
    if rig.error is None:
        await rig.ask()
        assert isinstance(rig.events[-1], Finish)
        assert await rig.left() == 0
    else:
        with pytest.raises(rig.error) as caught:
            await rig.ask()
        assert type(caught.value) is rig.error
        # Where nobody is there, the other one was tried as well.
        assert await rig.left() == (2 if way == "no head" else 1)


@pytest.mark.parametrize("way", WAYS)
async def test_one_that_is_given_up_at_any_moment(way: str) -> None:
    for turns in range(20):
        rig = Rig(way, hangs=True)
        async with anyio.create_task_group() as tasks:

            async def ask(rig: Rig = rig) -> None:
                try:
                    await rig.ask()
                except ExpertCallError as error:
                    assert type(error) is rig.error  # noqa: PT017 - or it is given up

            tasks.start_soon(ask)
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        failed = await rig.left()
        assert failed <= (way == "badly packed") + 2 * (way == "no head")


async def test_one_whose_reader_leaves_after_the_first_event() -> None:
    rig = Rig("stream", hangs=True)
    await rig.ask(most=1)
    assert len(rig.events) == 1
    assert await rig.left() == 0


async def test_a_connection_that_fails_is_tried_once_at_each_endpoint() -> None:
    rig = Rig("no head", failures=9)
    with pytest.raises(ExpertConnectionError):
        await rig.ask()
    # The session would keep to the first.
    assert sorted(rig.place.asked) == ["a", "b"]
    assert await rig.left() == 0


def test_what_comes_behind_an_answer_does_not_stretch_the_wait_for_its_end() -> None:
    given: list[bytes] = []
    loop = Loop()

    class Trickle(Body):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield BEGUN + ENDED
            while len(given) < 100:
                loop.now += 0.6
                await anyio.lowlevel.checkpoint()
                given.append(b": still here\n\n")
                yield given[-1]

    async def run() -> None:
        rig = Rig("stream")
        answer = httpx2.Response(200, stream=Trickle([]))
        rig.expert._made = httpx2.AsyncClient(transport=httpx2.MockTransport(lambda _: answer))
        await rig.ask()
        assert isinstance(rig.events[-1], Finish)
        assert await rig.left() == 0

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(run())
    # A second is waited for usage.
    assert len(given) < 4


async def test_an_expert_that_is_closed_closes_all_that_it_opened() -> None:
    expert = OpenAICompatibleExpert(ExpertCard("e"), URLS, "m")
    client = expert._client
    await expert.aclose()
    assert client.is_closed
    assert all(place._closed for place in expert._plain.values())


async def test_leave_to_connect_is_given_back_once() -> None:
    turns = anyio.Semaphore(1)
    async with ConnectTurn(turns) as turn:
        assert turns.value == 0
        for _ in range(2):
            await turn.heard("http11.send_request_headers.started", None)
            assert turns.value == 1
    assert turns.value == 1
