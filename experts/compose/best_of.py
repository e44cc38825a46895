"""Best of n: several drafts, and a selector that says which one to give.

The number of drafts is part of the expert, so that a router chooses between one, three and five of
the same model. Source: D. Ding et al., "BEST-Route: Adaptive LLM Routing with Test-Time Optimal
Compute", 2025.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

from experts.base import Call, Expert
from experts.cards import ExpertCard
from experts.compose.base import (
    ChildRequest,
    Composed,
    FanOut,
    Reply,
    each_its_share,
    one_answer,
    said,
    used,
    why_none,
)
from experts.compose.deferral.base import Signal
from experts.compose.sampling import sampled
from experts.messages import ChatRequest, Event


@dataclass(frozen=True, slots=True)
class Selected:
    """Which draft to give.

    Attributes:
        index: Its place among the drafts that were judged.
        scores: What each seemed worth, in [0, 1]; None where it can't be told.
        reply: A better draft that came up in the course, to give instead; None: the draft as it is.
    """

    index: int
    scores: Sequence[float | None] = ()
    reply: Reply | None = None


class Selector(Protocol):
    """Says which of several drafts is best."""

    def asks(self, request: ChatRequest) -> ChatRequest:
        """`request` as drafts must be asked for."""
        ...

    async def select(
        self,
        request: ChatRequest,
        drafts: Sequence[Reply],
        asked: Sequence[ChildRequest],
        call: Call,
    ) -> Selected:
        """Judge the drafts.

        Args:
            request: What the client asks.
            drafts: At least one, none of which failed, in the order in which they were asked for.
            asked: Who wrote each, and what was asked of it.
            call: The composition's own, for further calls.
        """
        ...


class BestOf(Composed):
    """Asks for all drafts at once and gives the one that the selector likes best.

    Args:
        card: Its card.
        drafters: Whom to ask; several times for several drafts of one.
        selector: Who says which is best.
        temperature: Of drafts, where the client sets none; None leaves it to the expert.
        min_successful: Drafts that must come, >= 1.
        at_once: Most calls under way at the same time; None: all.
        keep: Part of the money under a cap, in [0, 1), that drafts leave for the selector's calls.
    """

    def __init__(
        self,
        card: ExpertCard,
        drafters: Sequence[Expert],
        selector: Selector,
        *,
        temperature: float | None = None,
        min_successful: int = 1,
        at_once: int | None = None,
        keep: float = 0.0,
    ) -> None:
        super().__init__(card)
        self._drafters = tuple(drafters)
        self._selector = selector
        self._temperature = temperature
        self._min_successful = min_successful
        self._at_once = at_once
        self._keep = keep

    async def answer(self, request: ChatRequest, call: Call) -> AsyncGenerator[Event, None]:
        one_answer(self.card, request)
        asking = self._selector.asks(request)
        asks = [
            ChildRequest(drafter, sampled(asking, index, self._temperature))
            for index, drafter in enumerate(self._drafters)
        ]
        async with FanOut(call, each_its_share(call, asks, self._keep), self._at_once) as coming:
            replies = [reply async for reply in coming]
        drafts = sorted((r for r in replies if r.error is None), key=lambda reply: reply.index)
        if len(drafts) < self._min_successful:
            raise why_none([reply.error for reply in replies if reply.error])
        chosen = await self._selected(request, drafts, asks, call)
        for event in (*said(chosen, request), *used(call)):
            yield event

    async def _selected(
        self, request: ChatRequest, drafts: list[Reply], asks: Sequence[ChildRequest], call: Call
    ) -> Reply:
        selected = Selected(0)
        if len(drafts) > 1:
            asked = [asks[draft.index] for draft in drafts]
            selected = await self._selector.select(request, drafts, asked, call)
        scores = selected.scores or [None] * len(drafts)
        call.trace.append(
            {
                "drafts": [
                    {"child": draft.expert_id, "sample": draft.index, "score": score}
                    for draft, score in zip(drafts, scores, strict=True)
                ],
                "selected": drafts[selected.index].index,
            }
        )
        return selected.reply or drafts[selected.index]


class BySignal:
    """Likes the draft with the highest score of a signal; of equal ones the first.

    Drafts that the signal can't judge come last.
    """

    def __init__(self, signal: Signal) -> None:
        self._signal = signal

    def asks(self, request: ChatRequest) -> ChatRequest:
        return self._signal.asks(request)

    async def select(
        self,
        request: ChatRequest,
        drafts: Sequence[Reply],
        asked: Sequence[ChildRequest],
        call: Call,
    ) -> Selected:
        found = [
            await self._signal.measure(request, draft, each, call)
            for draft, each in zip(drafts, asked, strict=True)
        ]
        known = [-1.0 if each.score is None else each.score for each in found]
        index = known.index(max(known))
        return Selected(index, [each.score for each in found], found[index].reply)
