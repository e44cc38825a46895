"""Vote: several answers, and the one that most of them give.

Source: X. Wang et al., "Self-Consistency Improves Chain of Thought Reasoning in Language Models",
2022; weights as in AgentRouter.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import NamedTuple, Protocol

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
from experts.compose.grouping import EXACT, Grouping
from experts.compose.sampling import sampled
from experts.errors import ExpertCallError
from experts.messages import ChatRequest, Event


class Voter(NamedTuple):
    """One child that votes.

    Attributes:
        expert: Whom to ask.
        samples: How often, >= 1.
        weight: What one of its answers counts, > 0.
    """

    expert: Expert
    samples: int = 1
    weight: float = 1.0


class Weigher(Protocol):
    """What each voter's answer counts, for the request at hand."""

    async def weights(
        self, request: ChatRequest, cards: Sequence[ExpertCard], call: Call
    ) -> Sequence[float]:
        """One weight >= 0 per card; they replace the configured ones."""
        ...


class ByExpectation:
    """An answer counts what the router expects of who gave it: `Call.expects`, else its prior."""

    async def weights(
        self, request: ChatRequest, cards: Sequence[ExpertCard], call: Call
    ) -> Sequence[float]:
        known = await call.expects(request)
        return [known.get(card.expert_id, (card.quality_prior, 0.0))[0] for card in cards]


class Electorate:
    """Everybody's answers that are asked for, and what each of them counts.

    Args:
        voters: Who answers, how often, and what one answer counts.
        weigher: Says what answers count, in place of the voters' own weights.

    Attributes:
        members: One per answer asked for.
    """

    def __init__(self, voters: Sequence[Voter], weigher: Weigher | None) -> None:
        self.members = tuple(voter for voter in voters for _ in range(voter.samples))
        self._weigher = weigher

    async def weights(self, request: ChatRequest, call: Call) -> Sequence[float]:
        """What the answer of each member counts."""
        if self._weigher is None:
            return [member.weight for member in self.members]
        cards = [member.expert.card for member in self.members]
        return await self._weigher.weights(request, cards, call)


class Vote(Composed):
    """Asks all voters at once and gives the answer with the most weight behind it.

    As soon as the answers still to come can't turn the vote, their calls are cancelled. Of the
    answers that say the same, the one asked for first is given; so it is with a tie.

    Args:
        card: Its card.
        voters: Who votes.
        grouping: Which answers are the same.
        temperature: Of samples, where the client sets none; None leaves it to the expert.
        min_successful: Answers that must come, >= 1; fewer are a failure.
        at_once: Most calls under way at the same time; None: all.
        weigher: Says what votes count, in place of the voters' own weights.
    """

    def __init__(
        self,
        card: ExpertCard,
        voters: Sequence[Voter],
        grouping: Grouping = EXACT,
        *,
        temperature: float | None = None,
        min_successful: int = 1,
        at_once: int | None = None,
        weigher: Weigher | None = None,
    ) -> None:
        super().__init__(card)
        self._electorate = Electorate(voters, weigher)
        self._grouping = grouping
        self._temperature = temperature
        self._min_successful = min_successful
        self._at_once = at_once

    async def answer(self, request: ChatRequest, call: Call) -> AsyncGenerator[Event, None]:
        one_answer(self.card, request)
        weights = await self._electorate.weights(request, call)
        asks = [
            ChildRequest(voter.expert, sampled(request, index, self._temperature))
            for index, voter in enumerate(self._electorate.members)
        ]
        ballot = Ballot(weights, self._min_successful)
        async with FanOut(call, each_its_share(call, asks), self._at_once) as replies:
            async for reply in replies:
                ballot.add(reply)
                if ballot.came:
                    ballot.count(await self._grouping.groups(ballot.came))
                if ballot.decided:
                    break
        call.trace.append(ballot.told())
        if len(ballot.came) < self._min_successful:
            raise why_none(ballot.errors)
        for event in (*said(ballot.winner, request), *used(call)):
            yield event


class Ballot:
    """The votes so far.

    Args:
        weights: What each of the answers asked for counts.
        quorum: Answers without which nothing is decided.

    Attributes:
        came: The answers, in the order in which they were asked for.
    """

    def __init__(self, weights: Sequence[float], quorum: int = 1) -> None:
        self._weights = weights
        self._quorum = quorum
        self._open = set(range(len(weights)))
        self._groups: list[int] = []
        self._totals: list[float] = []
        self.came: list[Reply] = []
        self.errors: list[ExpertCallError] = []

    def add(self, reply: Reply) -> None:
        """One more reply, a failed one perhaps."""
        self._open.discard(reply.index)
        if reply.error is not None:
            self.errors.append(reply.error)
            return
        self.came = sorted([*self.came, reply], key=lambda each: each.index)

    def count(self, groups: Sequence[int]) -> None:
        """Count the answers that came, as `groups` puts them together."""
        self._groups = list(groups)
        self._totals = [0.0] * (max(groups) + 1)
        for reply, group in zip(self.came, groups, strict=True):
            self._totals[group] += self._weights[reply.index]

    @property
    def decided(self) -> bool:
        """Whether what is still to come can't change who wins."""
        if len(self.came) < self._quorum or not self._totals:
            return False
        first, second = [*sorted(self._totals, reverse=True), 0.0][:2]
        return first > second + sum(self._weights[index] for index in self._open)

    @property
    def winner(self) -> Reply:
        """The first answer of the group with the most weight."""
        return self.came[self._groups.index(self._totals.index(max(self._totals)))]

    @property
    def share(self) -> float:
        """The winner's part of the weight of all answers that came, in [0, 1]."""
        total = sum(self._totals)
        return max(self._totals) / total if total else 0.0

    def told(self) -> dict[str, object]:
        """For the trace."""
        return {
            "votes": [
                {"child": reply.expert_id, "sample": reply.index, "group": group}
                for reply, group in zip(self.came, self._groups, strict=True)
            ],
            "failed": [{"child": e.expert_id, "failed": e.kind} for e in self.errors],
            "not_needed": len(self._open),
        }
