"""Runs a composition outside any gateway: for simulations, notebooks and tests of composers."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from experts.base import Below, Call, Expert
from experts.messages import ChatRequest, Completion, Event, Usage, collect


def call_alone(below: Below | None = None) -> Call:
    """A call whose children are asked directly and tallied; no cap, no clock, no retry.

    Args:
        below: Where to tally, `Call.below` of the result; a new one if not given.
    """
    tally = Below() if below is None else below

    def run(
        expert: Expert, request: ChatRequest, at_most_usd: float | None = None, /
    ) -> AsyncGenerator[Event, None]:
        return _told(expert, request, tally)

    return Call(run, below=tally)


async def answer_alone(expert: Expert, request: ChatRequest) -> tuple[Completion, Call]:
    """The answer of an expert, and the call with what it came to and its trace.

    Raises:
        ExpertCallError: It failed.
    """
    call = call_alone()
    async with aclosing(expert.answer(request, call)) as events:
        return await collect(events), call


async def _told(expert: Expert, request: ChatRequest, above: Below) -> AsyncGenerator[Event, None]:
    below, usage = Below(), None
    card = expert.card
    if not card.composed:
        above.calls += 1
    try:
        async with aclosing(expert.answer(request, call_alone(below))) as events:
            async for event in events:
                if isinstance(event, Usage):
                    usage = event
                yield event
    finally:
        if card.composed:
            usage = below.usage
            above.calls += below.calls
            above.nanousd += below.nanousd
        elif usage is not None and card.prices is not None:
            above.nanousd += card.prices.cost_nanousd(usage)
        if usage is not None:
            above.usage = (above.usage or Usage()) + usage
