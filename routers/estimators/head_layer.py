"""The last layer of a trained head: qualities, how sure they are, and who joins or leaves."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from routers.estimators.observed import Observed
from routers.records import Floats, State

_PRIOR_SPREAD = 0.85
_LEAST_BEND = 0.01
_STEPS = 20
_LONGEST_STEP = 3.0
# A coefficient that is the same for all experts is none of an expert's own.
_CERTAIN = 1e9
_LEAST_VARIANCE = 1e-6
_OFFSET_VARIANCE = 0.25


@dataclass(frozen=True, slots=True, eq=False)
class HeadLayer:
    r"""Logistic in what the head has inside, h; a column of coefficients per expert.

    .. math:: q_a(x) = \sigma(s_a^\top h + b_a), \quad \mathrm{se}_a(x) = q (1 - q)
        \sqrt{\bar h^\top (n_a \kappa_a C + \alpha I)^{-1} \bar h}

    The standard error is that of the Laplace approximation: h̄ is h and a constant, C the mean of
    h̄ h̄ᵀ, n_a the effective number of outcomes of the expert and κ_a its mean q (1 − q). α says
    that before any outcome logits lie about .85 from the expert's mean. One factorisation of C
    serves all experts.

    Attributes:
        slope_HA: s; 0 for an expert never observed.
        offset_A: b; NaN for an expert never observed.
        axes_HH: Eigenvectors of C.
        values_H: Its eigenvalues, >= 0.
        information_A: n_a κ_a.
        prior_1: α > 0.

    Source: Kristiadi et al., "Being Bayesian, Even Just a Bit, Fixes Overconfidence in ReLU
    Networks", 2020.
    """

    slope_HA: Floats
    offset_A: Floats
    axes_HH: Floats
    values_H: Floats
    information_A: Floats
    prior_1: Floats

    @classmethod
    def of(cls, slope_HA: Floats, offset_A: Floats, inside_NH: Floats, outcomes: Observed) -> Self:
        """The layer with these coefficients, and what it saw in the rows trained on.

        Args:
            slope_HA: s; 0 for an expert never observed.
            offset_A: b; NaN for an expert never observed.
            inside_NH: What the head has inside, of each row that was trained on.
            outcomes: Of these rows, what was observed and what it weighs.
        """
        design_NH = _design(inside_NH)
        values_H, axes_HH = np.linalg.eigh(design_NH.T @ design_NH / len(design_NH))
        values_H = np.maximum(values_H, 0.0)
        quality_NA = expit(inside_NH @ slope_HA + offset_A)
        information_A = _information(quality_NA, outcomes.weight_NA)
        # Single precision is what was trained, and half of what must be read for a prediction.
        return cls(
            slope_HA.astype(np.float32),
            offset_A.astype(np.float64),
            axes_HH.astype(np.float32),
            values_H,
            information_A,
            values_H.sum(keepdims=True) / _PRIOR_SPREAD**2,
        )

    def predict(self, inside_NH: Floats) -> tuple[Floats, Floats]:
        """Qualities in [0, 1] and their standard errors, > 0, both (N, A)."""
        quality_NA = expit(inside_NH @ self.slope_HA + self.offset_A)
        along_NH = (_design(inside_NH) @ self.axes_HH) ** 2
        precision_HA = self.values_H[:, None] * self.information_A + self.prior_1
        bend_NA = np.maximum(quality_NA * (1 - quality_NA), _LEAST_BEND)
        return quality_NA, bend_NA * np.sqrt(along_NH @ (1 / precision_HA))

    def in_columns(self, order_K: npt.NDArray[np.intp], experts: int) -> Self:
        """The same for the columns of a table, some of whose experts were never observed."""
        slope_HA: npt.NDArray[Any] = np.zeros((len(self.slope_HA), experts), np.float32)
        offset_A, information_A = np.full(experts, np.nan), np.zeros(experts)
        slope_HA[:, order_K], offset_A[order_K] = self.slope_HA, self.offset_A
        information_A[order_K] = self.information_A
        return replace(self, slope_HA=slope_HA, offset_A=offset_A, information_A=information_A)

    def with_expert(self, place: int, inside_PH: Floats, probes: Observed) -> Self:
        r"""One column more, fitted to a newcomer's probes with all else as it is.

        Logistic regression under the prior that the newcomer is like one of the pool: its
        coefficients lie about their mean as the known experts' do. The offset is lowered by one
        standard error of the mean logit, so that few lucky probes don't win it the traffic.

        Source: EmbedLLM (Zhuang et al., 2024), which fits a new model's embedding with the rest
        frozen; prior and bound are ours.
        """
        centre_P, precision_P = self._pool()
        column, covariance = _posterior(_design(inside_PH), probes, centre_P, precision_P)
        quality_P1 = expit(_design(inside_PH) @ column)[:, None]
        # The constant is the last of the design, so C holds the mean row in its last column.
        mean_H = (self.axes_HH * self.values_H) @ self.axes_HH[-1].astype(np.float64)
        column[-1] -= np.sqrt(mean_H @ covariance @ mean_H)
        return replace(
            self,
            slope_HA=np.insert(self.slope_HA, place, column[:-1], axis=1),
            offset_A=np.insert(self.offset_A, place, column[-1]),
            information_A=np.insert(
                self.information_A, place, _information(quality_P1, probes.weight_NA)
            ),
        )

    def without_expert(self, place: int) -> Self:
        """One column less."""
        return replace(
            self,
            slope_HA=np.delete(self.slope_HA, place, axis=1),
            offset_A=np.delete(self.offset_A, place),
            information_A=np.delete(self.information_A, place),
        )

    def state(self) -> State:
        return {}, {name: getattr(self, name) for name in _FIELDS}

    @classmethod
    def from_state(cls, state: State) -> Self:
        return cls(*(state[1][name] for name in _FIELDS))

    def _pool(self) -> tuple[Floats, Floats]:
        """Mean and precision of the known experts' coefficients, the offset last."""
        known_A = ~np.isnan(self.offset_A)
        columns_PA = np.vstack([self.slope_HA, self.offset_A])[:, known_A]
        if not columns_PA.shape[1]:
            return np.zeros(len(columns_PA)), np.ones(len(columns_PA))
        variance_P = columns_PA.var(axis=1)
        own_P = np.ptp(columns_PA, axis=1) > 0
        variance_P = np.maximum(variance_P, _LEAST_VARIANCE)
        precision_P = np.where(own_P, 1 / variance_P, _CERTAIN)
        precision_P[-1] = 1 / (variance_P[-1] + _OFFSET_VARIANCE)
        return columns_PA.mean(axis=1), precision_P


_FIELDS = tuple(field.name for field in fields(HeadLayer))


def _design(inside_NH: Floats) -> Floats:
    count, width = inside_NH.shape
    design_NH = np.ones((count, width + 1), dtype=inside_NH.dtype)
    design_NH[:, :width] = inside_NH
    return design_NH


def _information(quality_NA: Floats, weight_NA: Floats) -> Floats:
    total_A = np.maximum(weight_NA.sum(axis=0), 1e-12)
    effective_A = total_A**2 / np.maximum((weight_NA**2).sum(axis=0), 1e-12)
    bend_NA = np.maximum(quality_NA * (1 - quality_NA), _LEAST_BEND)
    information_A: Floats = effective_A * (weight_NA * bend_NA).sum(axis=0) / total_A
    return information_A


def _posterior(
    design_PH: Floats, probes: Observed, centre_H: Floats, precision_H: Floats
) -> tuple[Floats, Floats]:
    """Most likely coefficients and their covariance, by Newton's method."""
    design_PH = design_PH.astype(np.float64)
    weight_P, score_P = probes.weight_NA[:, 0], probes.score_NA[:, 0]
    found_H = centre_H.copy()
    for _ in range(_STEPS):
        quality_P = expit(design_PH @ found_H)
        bend_P = weight_P * quality_P * (1 - quality_P)
        bend_HH = (design_PH * bend_P[:, None]).T @ design_PH + np.diag(precision_H)
        pull_H = design_PH.T @ (weight_P * (score_P - quality_P))
        step_H = np.linalg.solve(bend_HH, pull_H - precision_H * (found_H - centre_H))
        # Where the curve is flat a step would go too far.
        furthest = np.abs(design_PH @ step_H).max(initial=0.0)
        found_H = found_H + step_H * min(1.0, _LONGEST_STEP / max(furthest, 1e-12))
    quality_P = expit(design_PH @ found_H)
    bend_P = weight_P * quality_P * (1 - quality_P)
    bend_HH = (design_PH * bend_P[:, None]).T @ design_PH + np.diag(precision_H)
    return found_H, np.linalg.inv(bend_HH)
