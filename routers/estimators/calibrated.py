"""A wrapper that makes an estimator's qualities mean what they say."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt

from routers.base import Estimator, RehearsedEstimator
from routers.errors import TableError
from routers.estimators.folds import group_folds, others
from routers.estimators.observed import Observed, observed
from routers.records import Estimates, FeatureBatch, Floats, OutcomeTable, State
from routers.registry import DEFAULT_ESTIMATOR, estimator_class, make_estimator
from routers.storage.states import fitted, join_states, part_state

Mask = npt.NDArray[np.bool_]

_FOLDS = 5
_FEWEST_OUTCOMES = 50
# Chosen on six sets of outcomes: weaker shrinkage lets the noise of one expert's curve decide who
# is chosen, and loses up to a point of quality.
_SHARED_STRENGTH = 100.0
_EXPERT_STRENGTH = 4000.0
_LEAST_STEP = 1e-9
_BEYOND = 0.1
_GRID = np.linspace(0.0, 1.0, 513)


class CalibratedEstimator:
    """Isotonic regression of the observed scores on what another estimator predicts, per expert.

    The curves are fitted on predictions for rows (and whole groups of near-identical rows) that
    the estimator had not seen, and drawn through the centre of each constant step, so that
    requests which the estimator tells apart are not made equal (Oron & Flournoy, "Centered
    isotonic regression", 2017). One curve is fitted on all experts together. Each expert's own is
    drawn towards it: a step of n outcomes weighs n against 4000, and with fewer than 50 outcomes
    the shared curve stands.

    Args:
        inner: The estimator to correct, unfitted; None takes the default one.
    """

    name = "calibrated"

    def __init__(self, inner: Estimator | None = None) -> None:
        self.inner = inner or make_estimator(DEFAULT_ESTIMATOR)
        self._curve_AG: Floats | None = None
        self._unseen: _Unseen | None = None

    def fit(self, features: FeatureBatch, table: OutcomeTable, rng: np.random.Generator) -> Self:
        outcomes = observed(features, table)
        result = type(self)(self.inner.fit(features, table, rng))
        unseen = _predict_unseen(result.inner, features, table, rng)
        result._curve_AG = _curves(unseen.raw.quality_NA, outcomes)
        result._unseen = unseen
        return result

    def predict(self, features: FeatureBatch) -> Estimates:
        curve_AG = fitted(self._curve_AG)
        raw = self.inner.predict(features)
        quality_NA = _on_curves(raw.quality_NA, curve_AG)
        return Estimates(
            raw.experts, quality_NA, raw.stderr_NA, raw.output_tokens_NA, raw.latency_s_NA
        )

    def out_of_fold(self, table: OutcomeTable) -> Estimates:
        """What would be predicted for the rows it was just fitted on, had it not seen them.

        Both the estimator and the curves that correct it are those of the other folds.

        Args:
            table: The table that `fit` was given.

        Returns:
            One row per row of `table`; NaN where nothing could be held out.

        Raises:
            RoutingError: It was not fitted in this process: artifacts do not keep this.
        """
        unseen = fitted(self._unseen)
        seen = observed(unseen.features, table)
        quality_NA = np.full_like(unseen.raw.quality_NA, np.nan)
        for fold in unseen.folds:
            known = others(fold, len(table))
            curve_AG = _curves(unseen.raw.quality_NA[known], seen.take(known))
            quality_NA[fold] = _on_curves(unseen.raw.quality_NA[fold], curve_AG)
        return replace(unseen.raw, quality_NA=quality_NA)

    def state(self) -> State:
        own = {"kind": self.inner.name}, {"curve": fitted(self._curve_AG)}
        return join_states(own, {"inner": self.inner.state()})

    @classmethod
    def from_state(cls, state: State) -> Self:
        inner = estimator_class(state[0]["kind"]).from_state(part_state(state, "inner"))
        result = cls(inner)
        result._curve_AG = state[1]["curve"]
        return result


@dataclass(frozen=True, slots=True, eq=False)
class _Unseen:
    """Predictions for rows left out of the fit, and the folds they were left out in.

    Attributes:
        raw: As the estimator made them, one row per row of the table; NaN where there are none.
        features: Of the table.
        folds: The rows of each.
    """

    raw: Estimates
    features: FeatureBatch
    folds: tuple[npt.NDArray[np.intp], ...]


def _predict_unseen(
    inner: Estimator, features: FeatureBatch, table: OutcomeTable, rng: np.random.Generator
) -> _Unseen:
    """Predictions for rows left out of a fit: its own if it made some, else of one fit a fold.

    The estimator fits anew with the settings that it chose on all rows: choosing them again in
    every fold takes most of the time and changes next to nothing.
    """
    folds = group_folds(table.groups, _FOLDS, rng)
    if isinstance(inner, RehearsedEstimator):
        return _Unseen(inner.out_of_fold(table), features, tuple(folds))
    columns = [np.full(table.score_NA.shape, np.nan) for _ in range(4)]
    for fold in folds:
        known = others(fold, len(table))
        try:
            trial = inner.fit(features.take(known), table.take(known), rng)
        except TableError:
            # Too little is left without this fold, say one task of two: it can't be judged.
            continue
        found = trial.predict(features.take(fold))
        for column, values_NA in zip(columns, _numbers(found), strict=True):
            column[fold] = values_NA
    return _Unseen(Estimates(table.experts, *columns), features, tuple(folds))


def _numbers(found: Estimates) -> tuple[Floats, ...]:
    return found.quality_NA, found.stderr_NA, found.output_tokens_NA, found.latency_s_NA


def _on_curves(quality_NA: Floats, curve_AG: Floats) -> Floats:
    place_NA = quality_NA * (len(_GRID) - 1)
    # An unknown quality has no place, and stays unknown: NaN is in `place_NA` below.
    left_NA = np.minimum(np.fmax(place_NA, 0.0).astype(np.intp), len(_GRID) - 2)
    left_of_all_NA = left_NA + np.arange(quality_NA.shape[1]) * len(_GRID)
    low_NA, high_NA = curve_AG.take(left_of_all_NA), curve_AG.take(left_of_all_NA + 1)
    on_NA: Floats = low_NA + (place_NA - left_NA) * (high_NA - low_NA)
    return on_NA


def _curves(unseen_NA: Floats, outcomes: Observed) -> Floats:
    """Calibrated quality of each expert at each point of the grid, non-decreasing, (A, G)."""
    usable_NA = (outcomes.weight_NA > 0) & ~np.isnan(unseen_NA)
    shared_G = _curve(unseen_NA, outcomes, usable_NA, _GRID, _SHARED_STRENGTH)
    curves = []
    for expert in range(unseen_NA.shape[1]):
        only_NA = np.zeros_like(usable_NA)
        only_NA[:, expert] = usable_NA[:, expert]
        curves.append(_curve(unseen_NA, outcomes, only_NA, shared_G, _EXPERT_STRENGTH))
    return np.stack(curves)


def _curve(
    unseen_NA: Floats, outcomes: Observed, usable_NA: Mask, base_G: Floats, strength: float
) -> Floats:
    if usable_NA.sum() < _FEWEST_OUTCOMES:
        return base_G
    raw_U, place_N = np.unique(unseen_NA[usable_NA], return_inverse=True)
    weight_N = outcomes.weight_NA[usable_NA]
    mass_U = np.bincount(place_N, weight_N)
    score_U = np.bincount(place_N, weight_N * outcomes.score_NA[usable_NA]) / mass_U
    # Only training needs it, and it takes longer to load than a gateway to start.
    from sklearn.isotonic import isotonic_regression

    level_U = isotonic_regression(score_U, sample_weight=mass_U, y_min=0.0, y_max=1.0)
    step_of_U = np.cumsum(np.diff(level_U, prepend=level_U[0]) > _LEAST_STEP)
    mass_S = np.bincount(step_of_U, mass_U)
    centre_S = np.bincount(step_of_U, mass_U * raw_U) / mass_S
    level_S = np.bincount(step_of_U, mass_U * level_U) / mass_S
    base_S = np.interp(centre_S, _GRID, base_G)
    level_S = (mass_S * level_S + strength * base_S) / (mass_S + strength)
    level_S = np.maximum.accumulate(level_S)
    # Beyond the outermost steps it goes on rising as the base does, if slowly: half of the rows of
    # the highest step are there, and were equal otherwise.
    low_G = np.minimum(base_G - base_S[0], 0.0) * _BEYOND
    high_G = np.maximum(base_G - base_S[-1], 0.0) * _BEYOND
    curve_G = np.interp(_GRID, centre_S, level_S) + low_G + high_G
    bounded_G: Floats = np.minimum(np.maximum(curve_G, 0.0), 1.0)
    return bounded_G
