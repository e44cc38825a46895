"""Runs a composition without a gateway: children are asked as they are, and counted."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import anyio
import anyio.lowlevel

from experts.base import Call, Expert
from experts.cards import ExpertCard, Prices
from experts.compose.cards import Share, composed_card
from experts.fakes.scripted import ScriptedExpert
from experts.messages import (
    ChatRequest,
    Collector,
    Completion,
    Delta,
    Event,
    Finish,
    Message,
    Usage,
)

Says = Callable[[ChatRequest, int], str]


class Actor:
    """Answers with what `says` makes of the request and of how often it was asked before.

    Attributes:
        requests: What it was asked, oldest first.
    """

    def __init__(self, name: str, says: Says | str, usage: Usage | None = None) -> None:
        self.card = ExpertCard(name, prices=Prices(1, 1))
        self.requests: list[ChatRequest] = []
        self._says = (lambda request, times: says) if isinstance(says, str) else says
        self._usage = usage or Usage(input=1, output=1)

    async def answer(self, request: ChatRequest, call: Call) -> AsyncGenerator[Event, None]:
        times = len(self.requests)
        self.requests.append(request)
        await anyio.lowlevel.checkpoint()
        yield Delta(self._says(request, times))
        yield Finish("stop")
        yield self._usage

    async def aclose(self) -> None:
        return None


def card(*children: Actor | ScriptedExpert) -> ExpertCard:
    """A composition's card."""
    shares = [Share(child.card) for child in children]
    return composed_card("it", shares, shares)


def question(text: str = "Why?", **more: object) -> ChatRequest:
    """A request of one user message."""
    return ChatRequest((Message("user", text),), **more)  # type: ignore[arg-type]


def asked(expert: Expert, request: ChatRequest | None = None) -> tuple[Completion, Call]:
    """The whole answer, and the call with what became of it."""
    call = Call(run=None)  # type: ignore[arg-type]

    async def children(
        child: Expert, wanted: ChatRequest, at_most_usd: float | None = None, /
    ) -> AsyncGenerator[Event, None]:
        call.below.calls += 1
        async with aclosing(child.answer(wanted, Call(run=children))) as events:
            async for event in events:
                if isinstance(event, Usage):
                    call.below.usage = (
                        event if call.below.usage is None else call.below.usage + event
                    )
                yield event

    call.run = children

    async def all_of_it() -> Completion:
        collector = Collector()
        async with aclosing(expert.answer(request or question(), call)) as events:
            async for event in events:
                collector.add(event)
        return collector.completion()

    return anyio.run(all_of_it), call
