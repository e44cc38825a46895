"""Quality as a linear function of the vector, one ridge regression per expert."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Self

import numpy as np
import numpy.typing as npt

from routers.estimators.effort import EffortModel
from routers.estimators.folds import group_folds, others
from routers.estimators.observed import Observed, choice_error, observed
from routers.records import Estimates, FeatureBatch, Floats, Linear, OutcomeTable, Reasons, State
from routers.storage.states import fitted, join_states, part_state

_FOLDS = 5
_CANDIDATES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
_DEFAULT_ALPHA = 30.0


class RidgeEstimator:
    r"""Weighted ridge regression of each expert's observed scores, intercept unpenalised.

    .. math:: \hat q_a(x) = \mu_a + (z - \bar z_a)^\top
        (X^\top W_a X + \alpha I)^{-1} X^\top W_a y_a

    The standard error is that of the fitted mean, from the residual variance and the leverage.

    Args:
        alpha: Penalty, the same for every expert; None picks it by cross-validation.

    Source: the linear plug-in estimator of CARROT (Somerstep et al., "CARROT: A Cost Aware Rate
    Optimal Router", 2025).
    """

    name = "ridge"

    def __init__(self, alpha: float | None = None) -> None:
        self.alpha = alpha
        self._lines: _Lines | None = None
        self._effort: EffortModel | None = None

    def fit(self, features: FeatureBatch, table: OutcomeTable, rng: np.random.Generator) -> Self:
        outcomes = observed(features, table)
        vectors_ND = features.vectors_ND.astype(np.float64)
        alpha = self.alpha or _best_alpha(vectors_ND, outcomes, table.groups, rng)
        result = type(self)(alpha)
        result._lines = _fit_lines(vectors_ND, outcomes, alpha)
        result._effort = EffortModel().fit(features, table)
        return result

    def predict(self, features: FeatureBatch) -> Estimates:
        return fitted(self._effort).estimates(features, *self.quality(features))

    def quality(self, features: FeatureBatch) -> tuple[Floats, Floats]:
        """Expected score and its standard error, each (N, A); NaN unknown, not clipped."""
        return fitted(self._lines).predict(features.vectors_ND.astype(np.float64))

    def reasons(self, features: FeatureBatch, chosen: str, other: str) -> Reasons:
        experts = fitted(self._effort).experts
        if not {chosen, other} <= set(experts):
            return Reasons()
        pair = [experts.index(chosen), experts.index(other)]
        line = fitted(self._lines).difference(pair[0], pair[1])
        return Reasons() if np.isnan(line.baseline) else Reasons(linear=line)

    def state(self) -> State:
        lines = fitted(self._lines)
        own = {"alpha": self.alpha}, {name: getattr(lines, name) for name in _FIELDS}
        return join_states(own, {"effort": fitted(self._effort).state()})

    @classmethod
    def from_state(cls, state: State) -> Self:
        result = cls(state[0]["alpha"])
        result._lines = _Lines(*(state[1][name] for name in _FIELDS))
        result._effort = EffortModel.from_state(part_state(state, "effort"))
        return result


@dataclass(frozen=True, slots=True, eq=False)
class _Lines:
    """Fitted regressions. `G` groups of experts that were observed on the same rows.

    Attributes:
        group_A: Which group an expert belongs to.
        centre_GD: Mean vector of the group's rows.
        spread_GDD: Square root of the inverse penalised Gram matrix: the leverage of a centred
            vector x is the squared length of x · spread.
        slope_DA: Coefficients.
        mean_A: Mean score; NaN for an expert never observed.
        residual_A: Residual variance.
        count_A: Observed rows.
        offset_A: Quality of a vector of zeros.
        offset_GD: Each centre · spread.
    """

    group_A: npt.NDArray[np.int64]
    centre_GD: Floats
    spread_GDD: Floats
    slope_DA: Floats
    mean_A: Floats
    residual_A: Floats
    count_A: Floats
    offset_A: Floats = field(init=False)
    offset_GD: Floats = field(init=False)

    def __post_init__(self) -> None:
        shift_A = np.einsum("ad,da->a", self.centre_GD[self.group_A], self.slope_DA)
        object.__setattr__(self, "offset_A", self.mean_A - shift_A)
        offset_GD = np.einsum("gd,gde->ge", self.centre_GD, self.spread_GDD)
        object.__setattr__(self, "offset_GD", offset_GD)

    def predict(self, vectors_ND: Floats) -> tuple[Floats, Floats]:
        quality_NA = vectors_ND @ self.slope_DA + self.offset_A
        leverage_GN = np.empty((len(self.offset_GD), len(vectors_ND)))
        for group, offset_D in enumerate(self.offset_GD):
            away_ND = vectors_ND @ self.spread_GDD[group]
            away_ND -= offset_D
            away_ND *= away_ND
            np.add.reduce(away_ND, axis=1, out=leverage_GN[group])
        share_NA = leverage_GN.take(self.group_A, axis=0).T + 1 / np.maximum(self.count_A, 1)
        share_NA *= self.residual_A
        return quality_NA, np.sqrt(share_NA, out=share_NA)

    def difference(self, chosen: int, other: int) -> Linear:
        """Quality of one expert less that of another, around the mean vector of the first."""
        mean_D = self.centre_GD[self.group_A[chosen]]
        away_D = mean_D - self.centre_GD[self.group_A[other]]
        there = self.mean_A[other] + away_D @ self.slope_DA[:, other]
        slope_D = self.slope_DA[:, chosen] - self.slope_DA[:, other]
        return Linear(slope_D, mean_D, float(self.mean_A[chosen] - there))


_FIELDS = tuple(each.name for each in fields(_Lines) if each.init)


@dataclass(frozen=True, slots=True, eq=False)
class _Spectrum:
    """Eigenvalues and axes of one group's weighted Gram matrix: any penalty follows cheaply."""

    members: list[int]
    centre_D: Floats
    mean_M: Floats
    values_D: Floats
    axes_DD: Floats
    projected_DM: Floats

    def slope(self, alpha: float) -> Floats:
        slope_DM: Floats = self.axes_DD @ (self.projected_DM / (self.values_D + alpha)[:, None])
        return slope_DM

    def predict(self, vectors_ND: Floats, alpha: float) -> Floats:
        predicted_NM: Floats = self.mean_M + (vectors_ND - self.centre_D) @ self.slope(alpha)
        return predicted_NM


def _spectra(vectors_ND: Floats, outcomes: Observed) -> list[_Spectrum]:
    groups: dict[bytes, list[int]] = {}
    for expert in np.flatnonzero(~np.isnan(outcomes.mean_A)):
        groups.setdefault(outcomes.weight_NA[:, expert].tobytes(), []).append(int(expert))
    return [_spectrum(vectors_ND, outcomes, members) for members in groups.values()]


def _spectrum(vectors_ND: Floats, outcomes: Observed, members: list[int]) -> _Spectrum:
    weight_N = outcomes.weight_NA[:, members[0]]
    rows = np.flatnonzero(weight_N)
    weight_N1, vectors_ND = weight_N[rows, None], vectors_ND[rows]
    centre_D = (weight_N1 * vectors_ND).sum(axis=0) / weight_N1.sum()
    centred_ND = vectors_ND - centre_D
    weighted_DN = (weight_N1 * centred_ND).T
    values_D, axes_DD = np.linalg.eigh(weighted_DN @ centred_ND)
    mean_M = outcomes.mean_A[members]
    residual_NM = outcomes.score_NA[rows][:, members] - mean_M
    projected_DM = axes_DD.T @ (weighted_DN @ residual_NM)
    return _Spectrum(members, centre_D, mean_M, np.maximum(values_D, 0), axes_DD, projected_DM)


def _fit_lines(vectors_ND: Floats, outcomes: Observed, alpha: float) -> _Lines:
    spectra = _spectra(vectors_ND, outcomes)
    width, count = vectors_ND.shape[1], len(outcomes.mean_A)
    group_A = np.zeros(count, dtype=np.int64)
    slope_DA, residual_A = np.zeros((width, count)), np.full(count, np.nan)
    for index, spectrum in enumerate(spectra):
        members = spectrum.members
        group_A[members] = index
        slope_DA[:, members] = spectrum.slope(alpha)
        error_NM = spectrum.predict(vectors_ND, alpha) - outcomes.score_NA[:, members]
        weight_NM = outcomes.weight_NA[:, members]
        residual_A[members] = (weight_NM * error_NM**2).sum(axis=0) / weight_NM.sum(axis=0)
    return _Lines(
        group_A,
        np.stack([spectrum.centre_D for spectrum in spectra]),
        np.stack([spectrum.axes_DD / np.sqrt(spectrum.values_D + alpha) for spectrum in spectra]),
        slope_DA,
        outcomes.mean_A,
        residual_A,
        (outcomes.weight_NA > 0).sum(axis=0).astype(np.float64),
    )


def _best_alpha(
    vectors_ND: Floats, outcomes: Observed, groups: tuple[str, ...], rng: np.random.Generator
) -> float:
    folds = group_folds(groups, _FOLDS, rng)
    if not folds:
        return _DEFAULT_ALPHA
    errors = np.zeros(len(_CANDIDATES))
    for fold in folds:
        known = others(fold, len(groups))
        spectra = _spectra(vectors_ND[known], outcomes.take(known))
        truth = outcomes.take(fold)
        for index, alpha in enumerate(_CANDIDATES):
            predicted_NA = np.full(truth.score_NA.shape, np.nan)
            for spectrum in spectra:
                predicted_NA[:, spectrum.members] = spectrum.predict(vectors_ND[fold], alpha)
            errors[index] += choice_error(predicted_NA, truth)
    return _CANDIDATES[int(np.argmin(errors))]
