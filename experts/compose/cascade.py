"""Cascade: the cheapest first, and as long as a draft is not good enough, the next one up.

Source: L. Chen, M. Zaharia, J. Zou, "FrugalGPT: How to Use Large Language Models While Reducing
Cost and Improving Performance", 2023.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from experts.base import Call, Expert
from experts.cards import ExpertCard
from experts.compose.base import ChildRequest, Composed, ask_or_fail, relay, said, used, why_none
from experts.compose.deferral.base import Deferral, Verdict
from experts.errors import ExpertCallError
from experts.messages import ChatRequest, Event


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of a cascade.

    Attributes:
        expert: Who drafts.
        rule: Who judges the draft.
    """

    expert: Expert
    rule: Deferral


class Cascade(Composed):
    """Asks one stage after the other until a draft is accepted, else the last expert.

    A draft that the rule calls hopeless is given as it is: a dearer expert would not do better. A
    stage that fails is passed over. If the last expert can't be asked, because it fails or a cap
    leaves nothing for it, the best draft there is becomes the answer. The last one's answer is
    streamed as it comes, a draft only once it is accepted.

    Args:
        card: Its card.
        stages: Who drafts, cheapest first; may be none.
        last: Who answers when no draft was good enough.
    """

    def __init__(self, card: ExpertCard, stages: Sequence[Stage], last: Expert) -> None:
        super().__init__(card)
        self._stages = tuple(stages)
        self._last = last

    async def answer(self, request: ChatRequest, call: Call) -> AsyncGenerator[Event, None]:
        drafts, errors = list[Verdict](), list[ExpertCallError]()
        begun = False
        if not await self._accepted(request, call, drafts, errors):
            try:
                async with aclosing(relay(call, ChildRequest(self._last, request))) as events:
                    async for event in events:
                        begun = True
                        yield event
            except ExpertCallError as error:
                if begun:
                    raise
                errors.append(error)
                call.trace.append(_failed(error))
        if not begun:
            if not drafts:
                raise why_none(errors)
            # Of equal ones that from further up.
            given = max(reversed(drafts), key=_merit)
            for event in said(given.reply, request):
                yield event
        for usage in used(call):
            yield usage

    async def _accepted(
        self,
        request: ChatRequest,
        call: Call,
        drafts: list[Verdict],
        errors: list[ExpertCallError],
    ) -> bool:
        """Whether one of the stages has the answer; what they found is added to the lists."""
        for index, stage in enumerate(self._stages):
            asked = ChildRequest(stage.expert, stage.rule.signal.asks(request))
            reply = await ask_or_fail(call, asked, index)
            if reply.error is not None:
                errors.append(reply.error)
                call.trace.append(_failed(reply.error))
                continue
            drafts.append(await stage.rule.judge(request, reply, asked, call))
            call.trace.append(_step(drafts[-1]))
            if not drafts[-1].defers:
                return True
        return False


def _merit(draft: Verdict) -> tuple[bool, float]:
    """One that does not defer is the answer; else the best."""
    return not draft.defers, -1.0 if draft.score is None else draft.score


def _failed(error: ExpertCallError) -> dict[str, object]:
    return {"child": error.expert_id, "failed": error.kind}


def _step(draft: Verdict) -> dict[str, object]:
    return {
        "child": draft.reply.expert_id,
        "score": draft.score,
        "action": draft.ruling.action.value,
        "propensity": draft.ruling.propensity,
    }
