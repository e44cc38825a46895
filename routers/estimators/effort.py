"""How long an answer will be and how long it will take: the part that all estimators share."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable
from typing import Self

import numpy as np
import numpy.typing as npt

from routers.errors import RoutingError
from routers.records import Estimates, FeatureBatch, Floats, OutcomeTable, State

Mask = npt.NDArray[np.bool_]

_PENALTY = 10.0
_FEWEST_ROWS = 30


class EffortModel:
    """Ridge regression of log tokens and log seconds on the features, expert by expert.

    The mean of a skewed quantity is above the exponential of its mean logarithm, and costs follow
    the mean: so each expert's predictions are scaled to have the mean that was observed. An expert
    with fewer than 30 observations gets its median everywhere; one with none gets NaN.
    """

    def __init__(self) -> None:
        self._experts: tuple[str, ...] = ()
        self._arrays: dict[str, Floats] = {}

    def fit(self, features: FeatureBatch, table: OutcomeTable) -> Self:
        fitted = type(self)()
        fitted._experts = table.experts
        design_ND = _design(features)
        target_NB = np.log1p(np.hstack([table.output_tokens_NA, table.latency_s_NA]))
        fitted._arrays = _fit_columns(design_ND, target_NB)
        return fitted

    @classmethod
    def of_nobody(cls, width: int) -> Self:
        """A model of no expert yet, for vectors of `width`."""
        model = cls()
        model._arrays = _fit_columns(np.zeros((0, width + 1)), np.zeros((0, 0)))
        return model

    @property
    def experts(self) -> tuple[str, ...]:
        """Ids of the experts, the columns of all estimates."""
        return self._experts

    def with_expert(self, expert: str, features: FeatureBatch, probes: OutcomeTable) -> Self:
        """The model with one expert more, in its place by id; the others' columns stay."""
        place = bisect(self._experts, expert)
        alone = type(self)().fit(features, probes)
        return self._changed(
            (*self._experts[:place], expert, *self._experts[place:]),
            {
                name: _both_halves(_inserted, array, place, alone._arrays[name])
                for name, array in self._arrays.items()
            },
        )

    def without_expert(self, expert: str) -> Self:
        """The model with one expert less; the others' columns stay.

        Raises:
            RoutingError: There is no such expert.
        """
        if expert not in self._experts:
            raise RoutingError(
                f"there is no expert {expert!r} to remove; known are {', '.join(self._experts)}"
            )
        place = self._experts.index(expert)
        return self._changed(
            (*self._experts[:place], *self._experts[place + 1 :]),
            {name: _both_halves(_deleted, array, place) for name, array in self._arrays.items()},
        )

    def _changed(self, experts: tuple[str, ...], arrays: dict[str, Floats]) -> Self:
        model = type(self)()
        model._experts, model._arrays = experts, arrays
        return model

    def estimates(self, features: FeatureBatch, quality_NA: Floats, stderr_NA: Floats) -> Estimates:
        """Quality, clipped to [0, 1], together with the tokens and seconds expected here."""
        log_NB = _design(features) @ self._arrays["slope"] + self._arrays["intercept"]
        bounded_NB = _clipped(log_NB, self._arrays["low"], self._arrays["high"])
        effort_NB = np.expm1(bounded_NB) * self._arrays["scale"]
        count = len(self._experts)
        quality_NA = _clipped(quality_NA, 0.0, 1.0)
        return Estimates(
            self._experts, quality_NA, stderr_NA, effort_NB[:, :count], effort_NB[:, count:]
        )

    def state(self) -> State:
        return {"experts": list(self._experts)}, dict(self._arrays)

    @classmethod
    def from_state(cls, state: State) -> Self:
        model = cls()
        model._experts = tuple(state[0]["experts"])
        model._arrays = dict(state[1])
        return model


def _design(features: FeatureBatch) -> Floats:
    count, width = features.vectors_ND.shape
    design_ND = np.empty((count, width + 1))
    design_ND[:, :width] = features.vectors_ND
    np.log(features.prompt_tokens_N, out=design_ND[:, width])
    return design_ND


def _clipped(values: Floats, low: float | Floats, high: float | Floats) -> Floats:
    # np.clip takes five times as long for one request.
    clipped: Floats = np.minimum(np.maximum(values, low), high)
    return clipped


def _fit_columns(design_ND: Floats, target_NB: Floats) -> dict[str, Floats]:
    """Slope (D, B) and, each (B,), intercept, scale to the observed mean and the range seen."""
    width, columns = design_ND.shape[1], target_NB.shape[1]
    slope_DB = np.zeros((width, columns))
    intercept_B, low_B, high_B = (np.full(columns, np.nan) for _ in range(3))
    scale_B = np.ones(columns)
    for rows, members in _alike(~np.isnan(target_NB)):
        if not rows.any():
            continue
        seen_NB = target_NB[rows][:, members]
        low_B[members], high_B[members] = seen_NB.min(axis=0), seen_NB.max(axis=0)
        intercept_B[members] = np.median(seen_NB, axis=0)
        if rows.sum() >= _FEWEST_ROWS:
            slope, intercept_B[members] = _ridge(design_ND[rows], seen_NB)
            slope_DB[:, members] = slope
            scale_B[members] = _scale(design_ND[rows] @ slope + intercept_B[members], seen_NB)
    return {
        "slope": slope_DB,
        "intercept": intercept_B,
        "scale": scale_B,
        "low": low_B,
        "high": high_B,
    }


def _both_halves(
    change: Callable[..., Floats], array_B: Floats, place: int, *new_B: Floats
) -> Floats:
    """Tokens and seconds are one after the other in the last axis; each half is changed alike."""
    halves = [np.split(array, 2, axis=-1) for array in (array_B, *new_B)]
    changed = [change(old, place, *new) for old, *new in zip(*halves, strict=True)]
    return np.concatenate(changed, axis=-1)


def _inserted(array_A: Floats, place: int, new_1: Floats) -> Floats:
    return np.concatenate([array_A[..., :place], new_1, array_A[..., place:]], axis=-1)


def _deleted(array_A: Floats, place: int) -> Floats:
    return np.delete(array_A, place, axis=-1)


def _alike(seen_NB: Mask) -> list[tuple[Mask, list[int]]]:
    # Experts that answered the same rows share one factorisation.
    patterns: dict[bytes, list[int]] = {}
    for column in range(seen_NB.shape[1]):
        patterns.setdefault(np.packbits(seen_NB[:, column]).tobytes(), []).append(column)
    return [(seen_NB[:, members[0]], members) for members in patterns.values()]


def _ridge(design_ND: Floats, target_NB: Floats) -> tuple[Floats, Floats]:
    mean_D, mean_B = design_ND.mean(axis=0), target_NB.mean(axis=0)
    centred_ND = design_ND - mean_D
    gram_DD = centred_ND.T @ centred_ND + _PENALTY * np.eye(design_ND.shape[1])
    slope_DB = np.linalg.solve(gram_DD, centred_ND.T @ (target_NB - mean_B))
    return slope_DB, mean_B - mean_D @ slope_DB


def _scale(predicted_NB: Floats, target_NB: Floats) -> Floats:
    predicted = np.expm1(predicted_NB).mean(axis=0)
    seen = np.expm1(target_NB).mean(axis=0)
    scale_B: Floats = np.divide(seen, predicted, out=np.ones_like(seen), where=predicted > 0)
    return scale_B
