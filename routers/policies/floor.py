"""The quality floor: almost the quality of the best expert, with confidence, at least cost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Self

import numpy as np

from routers.fitting.practice import Practice, greedy_sweep
from routers.policies.greedy import (
    GreedyUtilityPolicy,
    good_enough,
    known_costs,
    on_the_best,
    utilities,
)
from routers.records import Candidates, Floats, Preference

_GREEDY = GreedyUtilityPolicy()


@dataclass(frozen=True, slots=True)
class FloorPolicy:
    """The cheapest that keeps `share` of the best single expert's quality, with `confidence`.

    Fitted, the promise is about the traffic: of the greedy policy's cost weights, from 0 upwards,
    it takes the last for which the lower confidence bound of mean(score - share · score of the best
    single expert) is not negative, and stops at the first for which it is. Trying them in an order
    set beforehand and stopping there keeps the risk of a wrong promise at 1 - `confidence` however
    many are tried. When not even the first holds, everything goes to the best single expert.

    Unfitted, it is about each request by itself, which costs more: the cheapest expert m with
    q_m - share · q_best >= z · sqrt(stderr_m² + share² · stderr_best²).

    Source: Angelopoulos, Bates, Candès, Jordan & Lei, "Learn then Test: Calibrating Predictive
    Algorithms to Achieve Risk Control", 2021 (fixed-sequence testing).

    Attributes:
        share: Of the best expert's quality, in (0, 1].
        confidence: In [0.5, 1).
        cost_weight: Of the greedy policy; None before it is fitted.
        always: Who gets everything because no cost weight keeps the promise; "" for nobody.
    """

    name = "floor"

    share: float = 0.95
    confidence: float = 0.95
    cost_weight: float | None = None
    always: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"share must be in (0, 1], got {self.share!r}")
        if not 0.5 <= self.confidence < 1:
            raise ValueError(f"confidence must be in [0.5, 1), got {self.confidence!r}")

    @property
    def is_fitted(self) -> bool:
        return self.cost_weight is not None

    def distribution(self, candidates: Candidates, preference: Preference) -> tuple[Floats, Floats]:
        if self.cost_weight is None:
            return self._request_by_request(candidates, preference)
        weighed = replace(preference, cost_weight=self.cost_weight)
        probabilities_A, utility_A = _GREEDY.distribution(candidates, weighed)
        if self.always in candidates.experts:
            probabilities_A = np.zeros(len(utility_A))
            probabilities_A[candidates.experts.index(self.always)] = 1.0
        return probabilities_A, utility_A

    def fit(self, practice: Practice, preference: Preference) -> Self:
        value_NA = practice.value
        best = int(value_NA.mean(axis=0).argmax())
        sweep = greedy_sweep(practice, preference)
        rows_N = np.arange(len(practice))
        spare_KN = value_NA[rows_N, sweep.chosen_KN] - self.share * value_NA[:, best]
        stderr_K = spare_KN.std(axis=1, ddof=1 if len(practice) > 1 else 0) / len(practice) ** 0.5
        holds_K = spare_KN.mean(axis=1) >= self._z * stderr_K
        first_miss = len(holds_K) if holds_K.all() else int(holds_K.argmin())
        if first_miss == 0:
            return replace(self, cost_weight=0.0, always=practice.experts[best])
        return replace(self, cost_weight=sweep.cost_weights[first_miss - 1], always="")

    @property
    def _z(self) -> float:
        return NormalDist().inv_cdf(self.confidence)

    def _request_by_request(
        self, candidates: Candidates, preference: Preference
    ) -> tuple[Floats, Floats]:
        utility_A = utilities(candidates, preference)
        quality_A, stderr_A = candidates.quality_A, candidates.stderr_A
        among_A = good_enough(candidates, preference)
        best = int(on_the_best(quality_A, candidates, preference).argmax())
        spread_A = np.hypot(stderr_A, self.share * stderr_A[best])
        holds_A = among_A & (quality_A - self.share * quality_A[best] >= self._z * spread_A)
        holds_A[best] = True
        cost = known_costs(candidates).tolist()
        able = np.flatnonzero(holds_A).tolist()
        chosen = min(able, key=lambda i: (cost[i], -utility_A[i], candidates.experts[i]))
        probabilities_A = np.zeros(len(utility_A))
        probabilities_A[chosen] = 1.0
        return probabilities_A, utility_A
