"""Linear regression per expert that learns on from each answer: what LinUCB chooses by."""

from __future__ import annotations

from typing import Self

import numpy as np

from routers.estimators.effort import EffortModel
from routers.estimators.posterior import LinearPosterior, LinearSums
from routers.estimators.stream import Directions, arrived
from routers.records import Estimates, FeatureBatch, Floats, OutcomeTable, State
from routers.storage.states import fitted, join_states, part_state


class LinUcbEstimator:
    r"""Ridge regression on a few principal directions and a constant, updated row by row.

    .. math:: A_a = \Lambda + \sum_i \gamma^{age_i} w_{ia} x_i x_i^\top, \quad
        \theta_a = A_a^{-1} (\Lambda \theta_0 + \sum_i \gamma^{age_i} w_{ia} x_i y_{ia}), \quad
        \hat q_a = x^\top \theta_a \pm \sigma_a \sqrt{x^\top A_a^{-1} x}

    The directions and θ₀ (no slope, the pool's mean score) are those of the first fit, which counts
    as one moment; afterwards every row fades all before it, whoever answered, so that the standard
    error of an expert grows while it isn't asked. An expert of few rows is near θ₀ with a wide
    error: an optimistic policy (quality + α · stderr, the exploration of LinUCB) asks it.
    Propensity weights are cut off at 10, since they inflate the variance of a single pass, and the
    error counts weighted rows as the fewer even ones that tell as much. Expected tokens and latency
    stay those of the first fit.

    Args:
        directions: How many principal directions of the text's vector are looked at.
        penalty: Precision of the prior of each slope, in rows; that of the constant is 1.
        keep: Share of its weight that a row keeps when the next one comes, in (0, 1]: 1 never
            forgets, .9999 looks back on some 10,000 requests.

    Source: Li et al., "A Contextual-Bandit Approach to Personalized News Article Recommendation",
    2010; forgetting after Russac et al., "Weighted Linear Bandits for Non-Stationary
    Environments", 2019.
    """

    name = "linucb"

    def __init__(self, directions: int = 32, penalty: float = 10.0, keep: float = 0.9999) -> None:
        self.directions = directions
        self.penalty = penalty
        self.keep = keep
        self.experts: tuple[str, ...] = ()
        self._directions: Directions | None = None
        self._prior_P: Floats | None = None
        self._sums: LinearSums | None = None
        self._posterior: LinearPosterior | None = None
        self._effort: EffortModel | None = None

    def fit(self, features: FeatureBatch, table: OutcomeTable, rng: np.random.Generator) -> Self:
        score_NA, weight_NA = arrived(features, table, table.experts)
        result = type(self)(self.directions, self.penalty, self.keep)
        result.experts = table.experts
        result._directions = Directions.of(features.vectors_ND, self.directions)
        rows_NP = result._directions.of_rows(features.vectors_ND)
        empty = LinearSums.empty(len(table.experts), rows_NP.shape[1])
        sums = empty.add(rows_NP, score_NA, weight_NA, keep=1.0)
        result._prior_P = self._prior(sums)
        result._effort = EffortModel().fit(features, table)
        return result._with(sums)

    def partial_fit(
        self, features: FeatureBatch, table: OutcomeTable, rng: np.random.Generator
    ) -> Self:
        if self._sums is None:
            return self.fit(features, table, rng)
        score_NA, weight_NA = arrived(features, table, self.experts)
        rows_NP = fitted(self._directions).of_rows(features.vectors_ND)
        result = type(self)(self.directions, self.penalty, self.keep)
        result.experts, result._directions = self.experts, self._directions
        result._prior_P, result._effort = self._prior_P, self._effort
        return result._with(self._sums.add(rows_NP, score_NA, weight_NA, self.keep))

    def predict(self, features: FeatureBatch) -> Estimates:
        rows_NP = fitted(self._directions).of_rows(features.vectors_ND)
        quality_NA, stderr_NA = fitted(self._posterior).predict(rows_NP)
        return fitted(self._effort).estimates(features, quality_NA, stderr_NA)

    def state(self) -> State:
        params = {
            "directions": self.directions,
            "penalty": self.penalty,
            "keep": self.keep,
            "experts": list(self.experts),
        }
        arrays = {"prior": fitted(self._prior_P), **fitted(self._sums).arrays()}
        parts = {
            "directions_": fitted(self._directions).state(),
            "effort": fitted(self._effort).state(),
        }
        return join_states((params, arrays), parts)

    @classmethod
    def from_state(cls, state: State) -> Self:
        params, arrays = state
        result = cls(params["directions"], params["penalty"], params["keep"])
        result.experts = tuple(params["experts"])
        result._directions = Directions.from_state(part_state(state, "directions_"))
        result._effort = EffortModel.from_state(part_state(state, "effort"))
        result._prior_P = arrays["prior"]
        return result._with(LinearSums.from_arrays(arrays))

    def _prior(self, sums: LinearSums) -> Floats:
        """θ₀ from the first fit: no slope, and the mean over all scores."""
        prior_P = np.zeros(sums.moment_AP.shape[1])
        prior_P[-1] = sums.moment_AP[:, -1].sum() / sums.mass_A.sum()
        return prior_P

    def _precision(self, width: int) -> Floats:
        precision_P = np.full(width, self.penalty)
        precision_P[-1] = 1.0
        return precision_P

    def _with(self, sums: LinearSums) -> Self:
        prior_P = fitted(self._prior_P)
        self._sums = sums
        self._posterior = sums.posterior(prior_P, self._precision(len(prior_P)))
        return self
