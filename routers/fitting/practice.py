"""Queries whose outcomes are known, as a policy weighs them: what its parameters are chosen on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from routers.errors import TableError
from routers.policies.greedy import good_enough, known_costs, utilities
from routers.records import Candidates, Floats, Preference

# As in training: who was asked once in a thousand would outweigh everybody else.
_LEAST_PROPENSITY = 1 / 50

COST_WEIGHTS: tuple[float, ...] = (0.0, *np.geomspace(1e-3, 10.0, 81).tolist(), 1e9)
"""From quality whatever it costs to the cheapest whatever its quality."""


@dataclass(frozen=True, slots=True, eq=False)
class Practice:
    """What a router expects of queries it has not learned from, and what came of them.

    Attributes:
        queries: What a policy would weigh for each, all with the same experts, length N.
        score_NA: The score of each expert, in [0, 1]; NaN unobserved.
        paid_usd_NA: What it cost, at the prices of now; NaN unknown.
        propensity_NA: P(this expert was asked) when this was recorded, in (0, 1].
        composed: Ids of those that are compositions.
    """

    queries: tuple[Candidates, ...]
    score_NA: Floats
    paid_usd_NA: Floats
    propensity_NA: Floats
    composed: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if not self.queries:
            raise TableError("there is no query to choose a policy's parameters on")

    def __len__(self) -> int:
        return len(self.queries)

    @property
    def experts(self) -> tuple[str, ...]:
        return self.queries[0].experts

    @property
    def quality(self) -> Floats:
        """Expected quality."""
        return np.stack([query.quality_A for query in self.queries])

    @property
    def value(self) -> Floats:
        """The score where every expert was asked; else its doubly robust stand-in.

        q + 1[asked] · (score - q) / propensity has the score's mean whoever was asked, if the
        propensities are right (Dudík, Langford & Li, "Doubly robust policy evaluation", 2011).
        """
        quality_NA, seen_NA = self.quality, ~np.isnan(self.score_NA)
        asked_NA = np.maximum(self.propensity_NA, _LEAST_PROPENSITY)
        return np.where(seen_NA, quality_NA + (self.score_NA - quality_NA) / asked_NA, quality_NA)

    @property
    def spend(self) -> Floats:
        """Dollars as they were paid, or else as they are expected."""
        expected_NA = np.stack([known_costs(query) for query in self.queries])
        return np.where(np.isnan(self.paid_usd_NA), expected_NA, self.paid_usd_NA)

    def column(self, expert: str) -> int:
        """Raises TableError when there is no such expert."""
        if expert not in self.experts:
            raise TableError(f"no expert {expert!r}; there are {', '.join(self.experts)}")
        return self.experts.index(expert)


@dataclass(frozen=True, slots=True, eq=False)
class GreedySweep:
    """The greedy policy at each of several cost weights.

    Attributes:
        cost_weights: Length K, rising.
        chosen_KN: Column of the expert that each query goes to.
        value_K: Mean score.
        spend_K: Mean dollars.
    """

    cost_weights: tuple[float, ...]
    chosen_KN: npt.NDArray[np.intp]
    value_K: Floats
    spend_K: Floats


def greedy_sweep(
    practice: Practice, preference: Preference, cost_weights: Sequence[float] = COST_WEIGHTS
) -> GreedySweep:
    """What the greedy policy would have done, with its cost weight replaced by each of these."""
    free = replace(preference, cost_weight=0.0)
    gain_NA = np.stack([utilities(query, free) for query in practice.queries])
    among_NA = np.stack([good_enough(query, free) for query in practice.queries])
    cost_NA = np.stack([known_costs(query) for query in practice.queries])
    scaled_NA = cost_NA / np.array([[query.cost_scale_usd] for query in practice.queries])
    # Of equals the cheaper is chosen, then the first.
    order_NA = np.argsort(cost_NA, axis=1, kind="stable")
    gain_NA = np.take_along_axis(np.where(among_NA, gain_NA, -np.inf), order_NA, axis=1)
    scaled_NA = np.take_along_axis(scaled_NA, order_NA, axis=1)
    places_KN = [(gain_NA - weight * scaled_NA).argmax(axis=1) for weight in cost_weights]
    rows_N = np.arange(len(practice))
    chosen_KN = np.stack([order_NA[rows_N, place_N] for place_N in places_KN])
    value_NA, spend_NA = practice.value, practice.spend
    return GreedySweep(
        tuple(cost_weights),
        chosen_KN,
        value_NA[rows_N, chosen_KN].mean(axis=1),
        spend_NA[rows_N, chosen_KN].mean(axis=1),
    )
