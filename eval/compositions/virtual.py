"""Compositions as further experts of an outcome table, with what they would have cost.

What a composition answers follows from what its experts answered. It decides by signals that a fit
made which had not seen the request, never by the score, and pays for every expert that it asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from eval.compositions.world import Side
from eval.errors import ComparisonError
from routers.deferral.chain import Chain
from routers.records import Floats, OutcomeTable


@dataclass(frozen=True, slots=True, eq=False)
class Happened:
    """What a composition leads to on N queries.

    Attributes:
        score_N: Score of its answer; its expectation where chance decides.
        asked_NA: How often each expert of the pool is asked, expected.
    """

    score_N: Floats
    asked_NA: Floats

    def usd(self, table: OutcomeTable) -> Floats:
        """Dollars of each query: the sum over all who are asked."""
        cost_N: Floats = (self.asked_NA * table.cost_usd_NA).sum(axis=1)
        return cost_N


class Composition(Protocol):
    """A way of making one answer out of several experts'."""

    @property
    def name(self) -> str:
        """What the table's column is called."""
        ...

    def on(self, side: Side) -> Happened:
        """What comes of it on recorded answers."""
        ...


@dataclass(frozen=True, slots=True)
class Cascaded:
    """Experts in turn, see `routers.deferral.chain.Chain`."""

    chain: Chain

    @property
    def name(self) -> str:
        steps = [self.chain.experts[0]]
        for expert, threshold in zip(self.chain.experts[1:], self.chain.thresholds, strict=True):
            steps.append(f"<{threshold.at:.2f} {expert}")
        return "cascade(" + " ".join(steps) + ")"

    def on(self, side: Side) -> Happened:
        logged = side.logged
        score_N, _ = self.chain.replay(logged)
        asked_NA = np.zeros(logged.score_NA.shape)
        reached_N = np.ones(len(score_N))
        for place, expert in enumerate(self.chain.experts):
            column = logged.experts.index(expert)
            asked_NA[:, column] += reached_N
            if place < len(self.chain.thresholds):
                passed_N = self.chain.thresholds[place].deferred(logged.signal_NA[:, column])
                reached_N = reached_N * passed_N
        return Happened(score_N, asked_NA)


@dataclass(frozen=True, slots=True)
class Voted:
    """Several experts at once; what most of them say is answered, the first's among equals.

    Attributes:
        experts: Ids, the most trusted first.
    """

    experts: tuple[str, ...]

    @property
    def name(self) -> str:
        return "vote(" + " ".join(self.experts) + ")"

    def on(self, side: Side) -> Happened:
        if side.seen.same_NAA is None:
            raise ComparisonError("a vote needs to know which answers say the same")
        columns = [side.table.experts.index(expert) for expert in self.experts]
        votes_NK = side.seen.same_NAA[:, columns][:, :, columns].sum(axis=2)
        winner_N = np.array(columns)[votes_NK.argmax(axis=1)]
        asked_NA = np.zeros(side.table.score_NA.shape)
        asked_NA[:, columns] = 1.0
        return Happened(side.table.score_NA[np.arange(len(winner_N)), winner_N], asked_NA)


@dataclass(frozen=True, slots=True)
class Agreed:
    """Two experts at once; where they don't say the same, a third one answers alone.

    Attributes:
        pair: Ids; the first one's answer is given where they agree.
        last: Id.
    """

    pair: tuple[str, str]
    last: str

    @property
    def name(self) -> str:
        return f"cascade({' = '.join(self.pair)} else {self.last})"

    def on(self, side: Side) -> Happened:
        if side.seen.same_NAA is None:
            raise ComparisonError("agreement needs to know which answers say the same")
        first, second, last = (side.table.experts.index(e) for e in (*self.pair, self.last))
        same_N = side.seen.same_NAA[:, first, second]
        score_NA = side.table.score_NA
        asked_NA = np.zeros(score_NA.shape)
        asked_NA[:, [first, second]] = 1.0
        asked_NA[:, last] = 1 - same_N
        return Happened(same_N * score_NA[:, first] + (1 - same_N) * score_NA[:, last], asked_NA)


@dataclass(frozen=True, slots=True)
class Picked:
    """Several experts at once; the answer that looks most right is given.

    Attributes:
        experts: Ids.
    """

    experts: tuple[str, ...]

    @property
    def name(self) -> str:
        return "best_of(" + " ".join(self.experts) + ")"

    def on(self, side: Side) -> Happened:
        columns = [side.table.experts.index(expert) for expert in self.experts]
        winner_N = np.array(columns)[side.seen.signal_NA[:, columns].argmax(axis=1)]
        asked_NA = np.zeros(side.table.score_NA.shape)
        asked_NA[:, columns] = 1.0
        return Happened(side.table.score_NA[np.arange(len(winner_N)), winner_N], asked_NA)


def with_compositions(side: Side, compositions: Sequence[Composition]) -> OutcomeTable:
    """The table of `side` with one more column for each composition, columns sorted by id.

    Tokens and dollars are sums over the experts that are asked; the time it takes is not known.

    Raises:
        ComparisonError: Two columns would have the same name.
    """
    table = side.table
    names = [*table.experts, *(each.name for each in compositions)]
    if len(set(names)) < len(names):
        raise ComparisonError("two compositions, or a composition and an expert, share a name")
    happened = [each.on(side) for each in compositions]
    order = np.argsort(np.array(names, dtype=object))

    def joined(values_NA: Floats, more: Sequence[Floats]) -> Floats:
        return np.column_stack([values_NA, *more])[:, order] if more else values_NA[:, order]

    def summed(values_NA: Floats) -> list[Floats]:
        return [np.where(h.asked_NA > 0, h.asked_NA * values_NA, 0.0).sum(axis=1) for h in happened]

    unknown = [np.full(len(table), np.nan) for _ in happened]
    certain = [np.ones(len(table)) for _ in happened]
    return replace(
        table,
        experts=tuple(names[place] for place in order),
        score_NA=joined(table.score_NA, [each.score_N for each in happened]),
        prompt_tokens_NA=joined(table.prompt_tokens_NA, summed(table.prompt_tokens_NA)),
        output_tokens_NA=joined(table.output_tokens_NA, summed(table.output_tokens_NA)),
        cost_usd_NA=joined(table.cost_usd_NA, [each.usd(table) for each in happened]),
        latency_s_NA=joined(table.latency_s_NA, unknown),
        propensity_NA=joined(table.propensity_NA, certain),
    )
