"""Whether a model says the same when it is asked again, or in another way."""

from __future__ import annotations

from dataclasses import dataclass

from experts.base import Call, Expert
from experts.compose.base import ChildRequest, FanOut, Reply, each_its_share
from experts.compose.deferral.base import SignalResult
from experts.compose.grouping import EXACT, Grouping
from experts.compose.sampling import sampled
from experts.messages import ChatRequest


@dataclass(frozen=True, slots=True)
class Agreement:
    """The share of answers that say what most of them say; the draft is one of them.

    Attributes:
        samples: Answers of whoever drafted, the draft included, and of each of `among`; >= 1.
        grouping: Which answers are the same.
        temperature: Of samples, where the client sets none; None leaves it to the expert.
        among: Who is asked beside whoever drafted: the same model under other prompts (a chain of
            thought, a program), or others as cheap.

    Source: M. Yue et al., "Large Language Model Cascades with Mixture of Thoughts Representations
    for Cost-efficient Reasoning", 2023.
    """

    samples: int = 3
    grouping: Grouping = EXACT
    temperature: float | None = None
    among: tuple[Expert, ...] = ()

    @property
    def calls(self) -> float:
        return self.samples - 1

    def asks(self, request: ChatRequest) -> ChatRequest:
        return sampled(request, 0, self.temperature)

    async def measure(
        self, request: ChatRequest, reply: Reply, asked: ChildRequest, call: Call
    ) -> SignalResult:
        everyone = (asked.expert, *self.among)
        asks = [
            asked._replace(expert=expert, request=sampled(request, index, self.temperature))
            for expert in everyone
            for index in range(self.samples)
        ][1:]
        async with FanOut(call, each_its_share(call, asks, keep=0.5)) as coming:
            others = [each async for each in coming if each.error is None]
        replies = [reply, *sorted(others, key=lambda each: each.index)]
        if len(replies) < 2:
            return SignalResult(None)
        groups = await self.grouping.groups(replies)
        most = max(groups.count(group) for group in groups)
        # With equally many, the draft's own words come first.
        winner = next(group for group in groups if groups.count(group) == most)
        return SignalResult(most / len(replies), replies[groups.index(winner)])
