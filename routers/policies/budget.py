"""The budget policy: the best quality that a mean cost per request buys."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from routers.fitting.practice import Practice, greedy_sweep
from routers.policies.greedy import GreedyUtilityPolicy
from routers.records import Candidates, Floats, Preference

_GREEDY = GreedyUtilityPolicy()


@dataclass(frozen=True, slots=True)
class BudgetPolicy:
    """Two greedy policies, drawn from with the odds that make the mean cost the budget.

    The greedy policy's cost jumps as its cost weight moves, so most budgets lie between two
    weights. `fit` sweeps the weights, takes the upper concave hull of the (cost, quality) points
    that they reach, finds the segment over the budget and mixes its two ends: with share s on the
    dearer end, s · c_dearer + (1 - s) · c_cheaper = B. A budget beyond the best point is
    not used up, and one below the cheapest expert can't be met: that expert gets everything.

    It holds on average, for traffic like the training data; `pacer` holds whatever comes. Unfitted,
    it is greedy.

    Source: the routing strategy of Dekoninck, Baader & Vechev, "A Unified Approach to Routing and
    Cascading for LLMs", 2024; the hull of Hu et al., "RouterBench", 2024.

    Attributes:
        usd_per_request: B, mean dollars of a request; > 0.
        dearer_weight: Cost weight of the dearer end; None before it is fitted.
        cheaper_weight: That of the cheaper end.
        dearer_share: s, in [0, 1].
    """

    name = "budget"

    usd_per_request: float = 0.001
    dearer_weight: float | None = None
    cheaper_weight: float = 0.0
    dearer_share: float = 1.0

    def __post_init__(self) -> None:
        if not self.usd_per_request > 0:
            raise ValueError(f"usd_per_request must be > 0, got {self.usd_per_request!r}")

    @property
    def is_fitted(self) -> bool:
        return self.dearer_weight is not None

    def distribution(self, candidates: Candidates, preference: Preference) -> tuple[Floats, Floats]:
        if self.dearer_weight is None:
            return _GREEDY.distribution(candidates, preference)
        share, ends = self.dearer_share, (self.dearer_weight, self.cheaper_weight)
        found = [
            _GREEDY.distribution(candidates, replace(preference, cost_weight=weight))
            for weight in ends
        ]
        (dearer_A, utility_A), (cheaper_A, cheap_utility_A) = found
        return (
            share * dearer_A + (1 - share) * cheaper_A,
            share * utility_A + (1 - share) * cheap_utility_A,
        )

    def fit(self, practice: Practice, preference: Preference) -> Self:
        sweep = greedy_sweep(practice, preference)
        hull = upper_hull(sweep.spend_K, sweep.value_K)
        spend_H = sweep.spend_K[hull]
        above = int(np.searchsorted(spend_H, self.usd_per_request))
        dearer = hull[min(above, len(hull) - 1)]
        cheaper = hull[max(above - 1, 0)]
        share = 1.0
        if dearer != cheaper:
            low, high = sweep.spend_K[cheaper], sweep.spend_K[dearer]
            share = min((self.usd_per_request - low) / (high - low), 1.0)
        return replace(
            self,
            dearer_weight=sweep.cost_weights[dearer],
            cheaper_weight=sweep.cost_weights[cheaper],
            dearer_share=float(share),
        )


def upper_hull(cost_K: Floats, quality_K: Floats) -> list[int]:
    """Which points lie on the non-decreasing upper concave hull, from the cheapest to the best.

    Mixing two neighbours at random reaches every point between them, so nothing below is worth a
    thought. The chain is built in one pass over the points by cost (Andrew's monotone chain).

    Args:
        cost_K: Costs.
        quality_K: What is reached for them.
    """
    hull: list[int] = []
    for point in np.lexsort((-quality_K, cost_K)).tolist():
        if hull and quality_K[point] <= quality_K[hull[-1]]:
            continue
        while len(hull) > 1 and _rise(cost_K, quality_K, hull[-2], hull[-1], point) <= 0:
            hull.pop()
        if len(hull) == 1 and cost_K[hull[0]] == cost_K[point]:
            hull.pop()
        hull.append(point)
    return hull


def _rise(cost_K: Floats, quality_K: Floats, left: int, middle: int, right: int) -> float:
    """Positive where `middle` lies above the line from `left` to `right`."""
    across = (cost_K[right] - cost_K[left]) * (quality_K[middle] - quality_K[left])
    along = (cost_K[middle] - cost_K[left]) * (quality_K[right] - quality_K[left])
    return float(across - along)
