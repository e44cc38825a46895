"""What every composition does: ask children, one after the other or at once, and say their answer.

Children are asked through `Call.run` alone, so that whoever runs the composition bounds, books and
cancels them like any other call.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from types import TracebackType
from typing import NamedTuple, Self

import anyio

from experts.base import Call, Expert
from experts.cards import ExpertCard
from experts.errors import ExpertCallError, ExpertCapError, ExpertUnsupportedError
from experts.messages import ChatRequest, Collector, Completion, Delta, Event, Usage


@dataclass(frozen=True, slots=True)
class Reply:
    """What one child answered, read to its end, or why it did not.

    Attributes:
        index: Which of the calls it answers, in the order in which they were asked for.
        expert_id: Who was asked.
        events: The answer as it came, without `Usage`.
        completion: The same added up; no choices if it failed.
        error: Why it failed; None if it did not.
    """

    index: int
    expert_id: str
    events: tuple[Event, ...]
    completion: Completion
    error: ExpertCallError | None = None

    @property
    def text(self) -> str:
        return self.completion.text


class ChildRequest(NamedTuple):
    """One child to ask, and what.

    Attributes:
        at_most_usd: See `experts.base.Runner`.
    """

    expert: Expert
    request: ChatRequest
    at_most_usd: float | None = None


class Composed:
    """What all compositions have in common.

    Args:
        card: See `experts.compose.cards.composed_card`.
    """

    def __init__(self, card: ExpertCard) -> None:
        self._card = card

    @property
    def card(self) -> ExpertCard:
        return self._card

    async def aclose(self) -> None:
        """Nothing to give back: who built the children closes them."""


async def ask(call: Call, asked: ChildRequest, index: int = 0) -> Reply:
    """One child's answer, read to its end.

    Raises:
        ExpertCallError: It failed.
    """
    collector, events = Collector(), list[Event]()
    # Nobody reads along, so there is no reason to have it in pieces.
    request = replace(asked.request, stream=False) if asked.request.stream else asked.request
    async with aclosing(call.run(asked.expert, request, asked.at_most_usd)) as source:
        async for event in source:
            collector.add(event)
            if not isinstance(event, Usage):
                events.append(event)
    expert_id = asked.expert.card.expert_id
    return Reply(index, expert_id, tuple(events), collector.completion())


async def ask_or_fail(call: Call, asked: ChildRequest, index: int = 0) -> Reply:
    """`ask`, with a failure told in the reply."""
    try:
        return await ask(call, asked, index)
    except ExpertCallError as error:
        expert_id = asked.expert.card.expert_id
        return Reply(index, expert_id, (), Completion((), None), error)


async def relay(call: Call, asked: ChildRequest) -> AsyncGenerator[Event, None]:
    """A child's events as they come, without its `Usage`, for the last call of a composition."""
    async with aclosing(call.run(*asked)) as source:
        async for event in source:
            if not isinstance(event, Usage):
                yield event


def said(reply: Reply, request: ChatRequest) -> Iterator[Event]:
    """The events of `reply` as the answer to `request`; log-probabilities only if asked for."""
    wanted = bool(request.params.get("logprobs"))
    for event in reply.events:
        if isinstance(event, Delta) and event.logprobs and not wanted:
            yield replace(event, logprobs=None)
        else:
            yield event


def used(call: Call) -> Iterator[Usage]:
    """The tokens of all calls that were made, to end an answer with."""
    if call.below.usage is not None:
        yield call.below.usage


def why_none(errors: Sequence[ExpertCallError]) -> ExpertCallError:
    """Of failures that left no answer, the one to tell: what went wrong before money was gone."""
    called = [error for error in errors if not isinstance(error, ExpertCapError)]
    return (called or list(errors))[-1]


def one_answer(card: ExpertCard, request: ChatRequest) -> None:
    """Raises ExpertUnsupportedError if the client wants several answers, which are told apart."""
    if (request.params.get("n") or 1) > 1:
        message = "gives one answer; `n` must be 1"
        raise ExpertUnsupportedError(card.expert_id, message, param="n")


def each_its_share(
    call: Call, asks: Sequence[ChildRequest], keep: float = 0.0
) -> list[ChildRequest]:
    """`asks` with what a cap leaves shared out among them, so that none takes it all.

    Args:
        call: The composition's own.
        asks: Calls that are made at once.
        keep: The part of the money, in [0, 1), to keep for calls that follow.
    """
    room = call.room_usd()
    if room == float("inf"):
        return list(asks)
    share = room * (1 - keep) / max(len(asks), 1)
    return [
        each._replace(
            at_most_usd=share if each.at_most_usd is None else min(each.at_most_usd, share)
        )
        for each in asks
    ]


class FanOut:
    """Several children at once; who is not needed any more is cancelled.

    An async context manager and iterator: replies come as they are complete, failed ones too. When
    the context is left, in whatever way, no call of it runs any more.

    Args:
        call: The composition's own.
        asks: Whom to ask what.
        at_once: Most calls under way at the same time.
    """

    def __init__(
        self, call: Call, asks: Sequence[ChildRequest], at_once: int | None = None
    ) -> None:
        self._call = call
        self._left = list(enumerate(asks))[::-1]
        self._at_once = len(self._left) if at_once is None else max(at_once, 1)
        self._running: set[asyncio.Task[Reply]] = set()
        self._ready: list[Reply] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with anyio.CancelScope(shield=True):
            for task in self._running:
                task.cancel()
            if self._running:
                await asyncio.wait(self._running)
            for task in self._running:
                # One that failed at the same moment has its failure on record.
                if not task.cancelled():
                    task.exception()
        self._running.clear()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Reply:
        self._start()
        if not self._ready:
            if not self._running:
                raise StopAsyncIteration
            done, self._running = await asyncio.wait(
                self._running, return_when=asyncio.FIRST_COMPLETED
            )
            self._ready = sorted(_results(done), key=lambda reply: -reply.index)
        return self._ready.pop()

    def _start(self) -> None:
        while self._left and len(self._running) < self._at_once:
            index, asked = self._left.pop()
            self._running.add(asyncio.create_task(ask_or_fail(self._call, asked, index)))


def _results(done: set[asyncio.Task[Reply]]) -> list[Reply]:
    """What ended tasks found; raises what one of them raised, when all have been looked at."""
    for error in [task.exception() for task in done]:
        if error is not None:
            raise error
    return [task.result() for task in done]
