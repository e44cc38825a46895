"""Penalised logistic regressions of many experts on the same rows, fitted together.

For one target and a few features see `routers.deferral.logistic`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.special import expit

from routers.estimators.observed import Observed
from routers.records import Floats

_STEPS = 40
_CLOSE = 1e-3
# The second derivative of the log loss in its logit is p (1 - p) <= 1/4.
_STEEPEST = 0.25


@dataclass(frozen=True, slots=True, eq=False)
class Logits:
    """Logits of `M` experts as linear functions of the row.

    Attributes:
        offset_M: Logit at the centre.
        slope_DM: Coefficients, in the axes of the rows that it was fitted on.
        curve_M: Mean of p (1 - p) over these rows.
    """

    offset_M: Floats
    slope_DM: Floats
    curve_M: Floats


@dataclass(frozen=True, slots=True, eq=False)
class RotatedRows:
    """The rows that some experts were observed on alike, along the axes of their Gram matrix.

    Attributes:
        members: The columns of these experts.
        centre_D: Weighted mean row.
        axes_DD: Eigenvectors, in columns.
        values_D: Eigenvalues of the weighted Gram matrix.
        turned_ND: The centred rows along the axes.
        weight_N: What each weighs.
        score_NM: The scores.
    """

    members: list[int]
    centre_D: Floats
    axes_DD: Floats
    values_D: Floats
    turned_ND: Floats
    weight_N: Floats
    score_NM: Floats

    @classmethod
    def alike(cls, vectors_ND: Floats, outcomes: Observed) -> list[Self]:
        """The rows of every observed expert, those with equal weights together."""
        groups: dict[bytes, list[int]] = {}
        for expert in np.flatnonzero(~np.isnan(outcomes.mean_A)):
            groups.setdefault(outcomes.weight_NA[:, expert].tobytes(), []).append(int(expert))
        return [cls._of(vectors_ND, outcomes, members) for members in groups.values()]

    @classmethod
    def _of(cls, vectors_ND: Floats, outcomes: Observed, members: list[int]) -> Self:
        weight_N = outcomes.weight_NA[:, members[0]]
        rows = np.flatnonzero(weight_N)
        weight_N, vectors_ND = weight_N[rows], vectors_ND[rows]
        centre_D = weight_N @ vectors_ND / weight_N.sum()
        centred_ND = vectors_ND - centre_D
        values_D, axes_DD = np.linalg.eigh((weight_N[:, None] * centred_ND).T @ centred_ND)
        return cls(
            members,
            centre_D,
            axes_DD,
            np.maximum(values_D, 0.0),
            centred_ND @ axes_DD,
            weight_N,
            outcomes.score_NA[rows][:, members],
        )

    def turn(self, vectors_ND: Floats) -> Floats:
        """Other rows along these axes."""
        turned_ND: Floats = (vectors_ND - self.centre_D) @ self.axes_DD
        return turned_ND

    def fit(self, penalty: float, start: Logits | None = None) -> Logits:
        r"""Minimise Σ w · log loss + penalty/2 · |slope|², the offset unpenalised.

        Along these axes the matrix Λ/4 + penalty bounds the second derivative and is diagonal,
        so that a step for all experts is one product with the rows there and one back. Steps gain
        momentum, which an expert loses when it leads uphill.

        Source: Böhning & Lindsay, "Monotonicity of Quadratic-Approximation Algorithms", 1988;
        O'Donoghue & Candès, "Adaptive Restart for Accelerated Gradient Schemes", 2015.
        """
        start = start or self._flat()
        mass = float(self.weight_N.sum())
        bound_D1 = (_STEEPEST * self.values_D + penalty)[:, None]
        now = here = np.vstack([start.slope_DM, start.offset_M])
        bound_P1 = np.vstack([bound_D1, [[_STEEPEST * mass]]])
        speed_M = np.ones(len(self.members))
        for _ in range(_STEPS):
            step = -self._slope_of_loss(here, penalty) / bound_P1
            ahead = here + step
            uphill_M = (step * (ahead - now)).sum(axis=0) < 0
            speed_M = np.where(uphill_M, 1.0, speed_M)
            faster_M = (1 + np.sqrt(1 + 4 * speed_M**2)) / 2
            here = ahead + (speed_M - 1) / faster_M * (ahead - now)
            now, speed_M = ahead, faster_M
            if np.abs(step).max() < _CLOSE:
                break
        sure_NM = expit(self.turned_ND @ now[:-1] + now[-1])
        curve_M = self.weight_N @ (sure_NM * (1 - sure_NM)) / mass
        return Logits(now[-1], now[:-1], curve_M)

    def _slope_of_loss(self, line_PM: Floats, penalty: float) -> Floats:
        off_NM = expit(self.turned_ND @ line_PM[:-1] + line_PM[-1]) - self.score_NM
        off_NM *= self.weight_N[:, None]
        return np.vstack([self.turned_ND.T @ off_NM + penalty * line_PM[:-1], off_NM.sum(axis=0)])

    def _flat(self) -> Logits:
        mass = self.weight_N.sum()
        mean_M = (self.weight_N @ self.score_NM + 0.5) / (mass + 1)
        slope_DM = np.zeros((len(self.values_D), len(self.members)))
        return Logits(np.log(mean_M / (1 - mean_M)), slope_DM, mean_M * (1 - mean_M))
