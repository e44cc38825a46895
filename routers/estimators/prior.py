"""The same estimate for every request: what is known of each expert before looking at any text."""

from __future__ import annotations

from typing import Self

import numpy as np

from routers.estimators.effort import EffortModel
from routers.estimators.newcomer import NewcomerSurplus, mean_of_pool, probes_of
from routers.estimators.observed import observed
from routers.records import Estimates, FeatureBatch, Floats, OutcomeTable, State
from routers.storage.states import fitted, join_states, part_state

_STRENGTH = 20.0


class PriorEstimator:
    """Each expert's mean score, whatever is asked.

    Fitted, it is the baseline that a router must beat: at cost weight 0 it always picks the best
    single expert. Unfitted it knows no expert at all, and a router falls back to the quality
    priors on the cards.
    """

    name = "prior"

    def __init__(self) -> None:
        self._mean_A: Floats = np.zeros(0)
        self._stderr_A: Floats = np.zeros(0)
        self._effort: EffortModel | None = None

    def fit(self, features: FeatureBatch, table: OutcomeTable, rng: np.random.Generator) -> Self:
        outcomes = observed(features, table)
        result = type(self)()
        result._mean_A = outcomes.mean_A
        spread_A = outcomes.mean_A * (1 - outcomes.mean_A)
        squares_A = (outcomes.weight_NA**2).sum(axis=0)
        effective_A = outcomes.weight_NA.sum(axis=0) ** 2 / np.maximum(squares_A, 1e-12)
        result._stderr_A = np.sqrt(spread_A / (effective_A + _STRENGTH))
        result._effort = EffortModel().fit(features, table)
        return result

    def predict(self, features: FeatureBatch) -> Estimates:
        shape = (len(features), len(self._mean_A))
        if self._effort is None:
            nothing_NA = np.zeros((len(features), 0))
            return Estimates((), nothing_NA, nothing_NA, nothing_NA, nothing_NA)
        quality_NA = np.broadcast_to(self._mean_A, shape)
        return self._effort.estimates(features, quality_NA, np.broadcast_to(self._stderr_A, shape))

    def add_expert(
        self, expert: str, features: FeatureBatch, probes: OutcomeTable, description: str = ""
    ) -> Self:
        effort = fitted(self._effort)
        seen = probes_of(expert, effort.experts, features, probes)
        everywhere_P1, pool_1 = np.ones((len(probes), 1)), mean_of_pool(self._mean_A[None])
        overall = NewcomerSurplus.of(everywhere_P1, seen, everywhere_P1 @ pool_1)
        result = type(self)()
        result._effort = effort.with_expert(expert, features, probes)
        place = result._effort.experts.index(expert)
        result._mean_A = np.insert(self._mean_A, place, overall.bound(pool_1))
        result._stderr_A = np.insert(self._stderr_A, place, overall.stderr_R)
        return result

    def remove_expert(self, expert: str) -> Self:
        effort = fitted(self._effort)
        result = type(self)()
        result._effort = effort.without_expert(expert)
        place = effort.experts.index(expert)
        result._mean_A = np.delete(self._mean_A, place)
        result._stderr_A = np.delete(self._stderr_A, place)
        return result

    def state(self) -> State:
        if self._effort is None:
            return {"fitted": False}, {}
        own = {"fitted": True}, {"mean": self._mean_A, "stderr": self._stderr_A}
        return join_states(own, {"effort": fitted(self._effort).state()})

    @classmethod
    def from_state(cls, state: State) -> Self:
        result = cls()
        if state[0]["fitted"]:
            result._mean_A, result._stderr_A = state[1]["mean"], state[1]["stderr"]
            result._effort = EffortModel.from_state(part_state(state, "effort"))
        return result
