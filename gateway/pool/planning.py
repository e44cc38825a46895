"""Cascade routing as it was fitted: `routers.cascading` as the chooser of a composition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from experts.base import Call, Expert
from experts.compose.base import ChildRequest, Reply
from experts.compose.deferral.base import Signal
from experts.compose.grouping import Grouping
from experts.compose.routed import NextStep
from experts.messages import ChatRequest
from gateway.errors import ConfigError
from routers.cascading.posterior import LearnedPosterior, Seen
from routers.cascading.routing import CascadeRouting
from routers.errors import RoutingError
from routers.features import estimate_prompt_tokens
from routers.records import Floats
from routers.storage.state_files import load_state

KIND = "cascade_routing"
"""What a file of it says that it holds, see `routers.storage.state_files`."""


@dataclass(frozen=True, slots=True)
class Planned:
    """Chooses as the fitted rule does.

    Attributes:
        rule: Its `experts` are the children's ids, in the same order.
        signal: What an answer is judged by, as it was when the rule was fitted.
        grouping: Which answers are the same.
        price: Quality, in [0, 1], that a dollar has to bring.
        output_tokens: Answer to reckon with where the request bounds none.
    """

    rule: CascadeRouting
    signal: Signal
    grouping: Grouping
    price: float
    output_tokens: float = 300.0

    def asks(self, request: ChatRequest) -> ChatRequest:
        return self.signal.asks(request)

    def begin(self, request: ChatRequest, children: Sequence[Expert], call: Call) -> PlannedSteps:
        return PlannedSteps(self, request, children, call)

    @property
    def compares(self) -> bool:
        """Whether the rule has learned from who agrees with whom."""
        posterior, count = self.rule.posterior, len(self.rule.experts)
        return isinstance(posterior, LearnedPosterior) and (
            len(posterior.answered[0].slope_F) > 3 + 2 * count
        )


@dataclass(slots=True)
class PlannedSteps:
    """See `Planned`."""

    plan: Planned
    request: ChatRequest
    children: Sequence[Expert]
    call: Call
    replies: list[Reply] = field(default_factory=list)
    failed: set[int] = field(default_factory=set)
    signal: dict[int, float] = field(default_factory=dict)
    better: dict[int, Reply] = field(default_factory=dict)
    ante: dict[int, float] = field(default_factory=dict)

    async def next(self, reply: Reply | None) -> NextStep:
        if reply is None:
            known = await self.call.expects(self.request)
            for index, child in enumerate(self.children):
                card = child.card
                self.ante[index] = known.get(card.expert_id, (card.quality_prior, 0.0))[0]
        else:
            await self._hear(reply)
        rule, count = self.plan.rule, len(self.children)
        ran = tuple(sorted(each.index for each in self.replies))
        ran_A = np.isin(np.arange(count), ran)
        quality_A = rule.posterior.quality(ran_A, await self._seen())[0]
        ahead = rule.next_expert(ran, quality_A, self._usd(), self.plan.price)
        if ahead in self.failed:
            ahead = None
        best = max(ran, key=lambda index: float(quality_A[index]), default=None)
        expected = {child.card.expert_id: round(float(q), 4) for child, q in self._with(quality_A)}
        reply = None if best is None else self.better.get(best)
        return NextStep(ahead, best, why={"expected": expected}, reply=reply)

    async def _hear(self, reply: Reply) -> None:
        if reply.error is not None:
            self.failed.add(reply.index)
            return
        self.replies = sorted([*self.replies, reply], key=lambda each: each.index)
        asked = ChildRequest(self.children[reply.index], self.plan.asks(self.request))
        measured = await self.plan.signal.measure(self.request, reply, asked, self.call)
        if measured.reply is not None:
            self.better[reply.index] = measured.reply
        if measured.score is not None:
            self.signal[reply.index] = measured.score

    async def _seen(self) -> Seen:
        count = len(self.children)
        ante_A = np.array([self.ante[index] for index in range(count)])
        signal_A = np.array([self.signal.get(index, self.ante[index]) for index in range(count)])
        if not self.plan.compares:
            return Seen(ante_A[None], signal_A[None])
        same_AA = np.eye(count)
        groups = await self.plan.grouping.groups(self.replies) if self.replies else []
        for one, group in zip(self.replies, groups, strict=True):
            for other, another in zip(self.replies, groups, strict=True):
                same_AA[one.index, other.index] = group == another
        return Seen(ante_A[None], signal_A[None], same_AA[None])

    def _usd(self) -> Floats:
        prompt = estimate_prompt_tokens(self.request)
        answer = self.request.max_tokens or self.plan.output_tokens
        prices = [child.card.prices for child in self.children]
        dollars = [0.0 if each is None else each.expected_usd(prompt, answer) for each in prices]
        # Whoever failed is out of reach.
        return np.array([np.inf if i in self.failed else usd for i, usd in enumerate(dollars)])

    def _with(self, quality_A: Floats) -> zip[tuple[Expert, float]]:
        return zip(self.children, quality_A.tolist(), strict=True)


def fitted_rule(path: Path, children: Sequence[Expert], expert_id: str) -> CascadeRouting:
    """The rule in a file.

    Raises:
        ConfigError: It can't be read, or is about others than these children.
    """
    try:
        rule = CascadeRouting.from_state(load_state(KIND, path))
    except RoutingError as error:
        raise ConfigError(f"expert {expert_id!r}: {error}") from error
    ids = tuple(child.card.expert_id for child in children)
    if rule.experts != ids:
        raise ConfigError(
            f"expert {expert_id!r}: '{path}' was fitted for the children "
            f"{', '.join(rule.experts)}, in this order; fit it anew"
        )
    return rule
