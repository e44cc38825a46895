"""Several children at once: what each may cost, who is heard first, and what failed."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from experts.base import Call, Expert
from experts.compose.alone import call_alone
from experts.compose.base import ChildRequest, FanOut, Reply, each_its_share, why_none
from experts.compose.vote import Ballot
from experts.errors import ExpertCapError, ExpertUnavailableError
from experts.messages import ChatRequest, Choice, Completion, Delta, Event, Finish
from tests.experts.compose.asking import Actor, question


def test_what_a_cap_leaves_is_shared_out_and_a_part_of_it_kept() -> None:
    one = Actor("one", "x")
    asks = [ChildRequest(one, question(), most) for most in (None, 0.05, 5.0, None)]
    call = call_alone()
    assert each_its_share(call, asks, keep=0.5) == asks, "there is no cap"
    call.room_usd = lambda: 0.8
    shares = [each.at_most_usd for each in each_its_share(call, asks)]
    assert shares == pytest.approx([0.2, 0.05, 0.2, 0.2])
    kept = [each.at_most_usd for each in each_its_share(call, asks, keep=0.5)]
    assert kept == pytest.approx([0.1, 0.05, 0.1, 0.1])
    assert each_its_share(call, []) == []


def test_of_failures_that_is_told_which_came_before_the_money_was_gone() -> None:
    down, first, last = (
        ExpertUnavailableError("a", "down"),
        ExpertCapError("b", "no money"),
        ExpertCapError("c", "no calls"),
    )
    assert why_none([first, down, last]) is down
    assert why_none([first, last]) is last


def test_the_answer_that_was_asked_for_first_is_given_whichever_came_first() -> None:
    def reply(index: int) -> Reply:
        return Reply(index, "a", (), Completion((Choice("x", "stop"),), None))

    ballot = Ballot([1.0, 1.0, 1.0])
    for index in (2, 0, 1):
        ballot.add(reply(index))
    ballot.count([0, 0, 0])
    assert [each.index for each in ballot.came] == [0, 1, 2]
    assert ballot.winner.index == 0


class Gathered:
    """Answers, or fails, once so many are asked.

    Attributes:
        over: Who ended, however.
    """

    def __init__(self, count: int) -> None:
        self._missing = count
        self._all_there = anyio.Event()
        self.over: list[str] = []

    def run(
        self, expert: Expert, request: ChatRequest, at_most_usd: float | None = None, /
    ) -> AsyncGenerator[Event, None]:
        return self._events(expert.card.expert_id)

    async def _events(self, name: str) -> AsyncGenerator[Event, None]:
        try:
            self._missing -= 1
            if not self._missing:
                self._all_there.set()
            await self._all_there.wait()
            if name == "fails":
                raise RuntimeError("a fault of ours")
            if name == "hangs":
                await anyio.sleep_forever()
            yield Delta(name)
            yield Finish("stop")
        finally:
            self.over.append(name)


def gathered(*names: str) -> tuple[Gathered, list[dict[str, Any]]]:
    """What became of these, and what nobody looked at."""
    children, unseen = Gathered(len(names)), list[dict[str, Any]]()

    async def ask_all() -> None:
        asks = [ChildRequest(Actor(name, ""), question()) for name in names]
        async with FanOut(Call(children.run), asks) as replies:
            async for _ in replies:
                pass

    async def watched() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, told: unseen.append(told))
        with pytest.raises(RuntimeError, match="a fault of ours"):
            await ask_all()
        gc.collect()
        await anyio.lowlevel.checkpoint()

    anyio.run(watched)
    return children, unseen


def test_a_fault_of_ours_ends_all_calls_and_none_goes_unseen() -> None:
    children, unseen = gathered("fails", "hangs", "fails")
    assert sorted(children.over) == ["fails", "fails", "hangs"]
    assert unseen == []
