"""Whether a model says the same when it is asked again."""

from __future__ import annotations

from dataclasses import dataclass

from experts.base import Call
from experts.compose.base import Asked, FanOut, Reply, each_its_share
from experts.compose.deferral.base import Measured
from experts.compose.grouping import EXACT, Grouping
from experts.compose.sampling import sampled
from experts.messages import ChatRequest


@dataclass(frozen=True, slots=True)
class Agreement:
    """The share of a model's answers that say what most of them say; its draft is one of them.

    Attributes:
        samples: Answers in all, >= 2.
        grouping: Which answers are the same.
        temperature: Of samples, where the client sets none; None leaves it to the expert.

    Source: M. Yue et al., "Large Language Model Cascades with Mixture of Thoughts Representations
    for Cost-efficient Reasoning", 2023.
    """

    samples: int = 3
    grouping: Grouping = EXACT
    temperature: float | None = None

    @property
    def calls(self) -> float:
        return self.samples - 1

    def asks(self, request: ChatRequest) -> ChatRequest:
        return sampled(request, 0, self.temperature)

    async def measure(
        self, request: ChatRequest, reply: Reply, asked: Asked, call: Call
    ) -> Measured:
        asks = [
            asked._replace(request=sampled(request, index, self.temperature))
            for index in range(1, self.samples)
        ]
        async with FanOut(call, each_its_share(call, asks, keep=0.5)) as coming:
            others = [each async for each in coming if each.error is None]
        replies = [reply, *sorted(others, key=lambda each: each.index)]
        if len(replies) < 2:
            return Measured(None)
        groups = await self.grouping.groups(replies)
        most = max(groups.count(group) for group in groups)
        # With equally many, the draft's own words come first.
        winner = next(group for group in groups if groups.count(group) == most)
        return Measured(most / len(replies), replies[groups.index(winner)])
