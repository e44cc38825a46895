"""A penalised logistic regression that takes soft targets and is fitted in closed Newton steps.

For one target and a few features, to convergence. `routers.estimators.logits` fits many experts on
hundreds of them at once, by bounded steps that stop early: neither would give the other's numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.special import expit

from routers.errors import TableError
from routers.records import Floats, State

_STEPS = 25
_CLOSE = 1e-6
_TINY = 1e-9
_FARTHEST = 0.999


@dataclass(frozen=True, slots=True, eq=False)
class LogisticRegression:
    """P(right) as a logistic function of standardised features.

    Attributes:
        centre_F: Mean of each feature.
        spread_F: Standard deviation of each, 1 where it never varied.
        offset: Logit at the centre.
        slope_F: Change of the logit per standard deviation.
    """

    centre_F: Floats
    spread_F: Floats
    offset: float
    slope_F: Floats

    @classmethod
    def fit(cls, features_NF: Floats, target_N: Floats, penalty: float = 1.0) -> Self:
        """Minimise Σ log loss + penalty/2 · |slope|²; the offset is free.

        Args:
            features_NF: Any finite numbers, shape (N, F).
            target_N: What is to be expected, in [0, 1].
            penalty: > 0.

        Raises:
            TableError: There is no row.
        """
        if not len(target_N):
            raise TableError("no graded draft is known, so there is nothing to learn")
        centre_F = features_NF.mean(axis=0)
        spread_F = features_NF.std(axis=0)
        spread_F = np.where(spread_F > _TINY, spread_F, 1.0)
        rows = np.hstack([np.ones((len(target_N), 1)), (features_NF - centre_F) / spread_F])
        line_P = _newton(rows, target_N, penalty)
        return cls(centre_F, spread_F, float(line_P[0]), line_P[1:])

    def logit(self, features_NF: Floats) -> Floats:
        """Logit of P(right), shape (N,)."""
        logit_N: Floats = self.offset + ((features_NF - self.centre_F) / self.spread_F) @ (
            self.slope_F
        )
        return logit_N

    def predict(self, features_NF: Floats) -> Floats:
        """P(right), in (0, 1), shape (N,)."""
        expected_N: Floats = expit(self.logit(features_NF))
        return expected_N

    def state(self) -> State:
        arrays = {"centre": self.centre_F, "spread": self.spread_F, "slope": self.slope_F}
        return {"offset": self.offset}, arrays

    @classmethod
    def from_state(cls, state: State) -> Self:
        params, arrays = state
        return cls(arrays["centre"], arrays["spread"], params["offset"], arrays["slope"])


def logit(expected: Floats) -> Floats:
    """Log odds of probabilities, which are kept .001 away from 0 and 1."""
    bounded = np.clip(expected, 1 - _FARTHEST, _FARTHEST)
    odds: Floats = np.log(bounded / (1 - bounded))
    return odds


def _newton(rows_NP: Floats, target_N: Floats, penalty: float) -> Floats:
    # The offset is held by next to nothing, so that targets that are all alike stay finite.
    ridge_P = np.full(rows_NP.shape[1], penalty)
    ridge_P[0] = 1e-3
    line_P = np.zeros(rows_NP.shape[1])
    for _ in range(_STEPS):
        expected_N = expit(rows_NP @ line_P)
        slope_P = rows_NP.T @ (expected_N - target_N) + ridge_P * line_P
        curve_N = np.maximum(expected_N * (1 - expected_N), _TINY)
        curve_PP = (rows_NP.T * curve_N) @ rows_NP + np.diag(ridge_P)
        step_P = np.linalg.solve(curve_PP, slope_P)
        line_P = line_P - step_P
        if np.abs(step_P).max() < _CLOSE:
            break
    return line_P
