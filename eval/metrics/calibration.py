"""Whether predicted qualities come true: calibration error, Brier score and its skill."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from eval.metrics.intervals import ClusterBootstrap, Interval, percentile_interval, ratio
from routers.records import Floats


@dataclass(frozen=True, slots=True)
class Bin:
    """Predictions of about the same height: what was predicted, what came, how many."""

    predicted: float
    observed: float
    count: int


@dataclass(frozen=True, slots=True)
class Calibration:
    """How predictions and scores go together.

    Attributes:
        ece: Expected calibration error over bins of equal width, in [0, 1], 0 best.
        ece_mass: The same over bins that hold equally many predictions.
        brier: Mean squared error of the predictions, 0 best.
        skill: 1 - brier / brier of always predicting the mean score; above 0 beats that, NaN where
            all scores are equal.
        bins: The bins of equal width that hold anything.
    """

    ece: float
    ece_mass: float
    brier: float
    skill: float
    bins: tuple[Bin, ...]


def calibration(predicted: Floats, scores: Floats, bins: int = 10) -> Calibration | None:
    """Compare predictions with scores; cells where either is NaN are left out.

    .. math:: ECE = sum_b n_b / n · |mean score_b - mean prediction_b|

    Args:
        predicted: Predicted qualities in [0, 1], any shape.
        scores: Scores in [0, 1], same shape.
        bins: How many bins.

    Returns:
        None when there is nothing to compare.
    """
    known = ~(np.isnan(predicted) | np.isnan(scores))
    p_K, y_K = predicted[known], scores[known]
    if not len(p_K):
        return None
    by_width_K = np.minimum((p_K * bins).astype(np.intp), bins - 1)
    by_mass_K = np.empty(len(p_K), dtype=np.intp)
    by_mass_K[np.argsort(p_K, kind="stable")] = np.arange(len(p_K)) * bins // len(p_K)
    brier = float(np.mean((p_K - y_K) ** 2))
    spread = float(np.var(y_K))
    return Calibration(
        ece=_ece(p_K, y_K, by_width_K),
        ece_mass=_ece(p_K, y_K, by_mass_K),
        brier=brier,
        skill=1 - brier / spread if spread > 0 else float("nan"),
        bins=_bins(p_K, y_K, by_width_K),
    )


def calibration_intervals(
    predicted_NA: Floats, score_NA: Floats, bootstrap: ClusterBootstrap, bins: int = 10
) -> dict[str, Interval]:
    """95 % intervals of `ece` and `brier` over groups of queries; none where nothing is known.

    The predictions stay in their bins; what is drawn anew is who is in them. The error of few
    predictions is too high on average, and so are the ends of its interval.
    """
    known_NA = ~(np.isnan(predicted_NA) | np.isnan(score_NA))
    if not known_NA.any():
        return {}
    p_NA, y_NA = np.where(known_NA, predicted_NA, 0.0), np.where(known_NA, score_NA, 0.0)
    bin_NA = np.minimum((p_NA * bins).astype(np.intp), bins - 1)
    off_NA = np.where(known_NA, y_NA - p_NA, 0.0)
    rows = [np.where(bin_NA == each, off_NA, 0.0).sum(axis=1) for each in range(bins)]
    rows += [(off_NA**2).sum(axis=1), known_NA.sum(axis=1).astype(np.float64)]
    sums_BR = bootstrap.sums(np.stack(rows))
    count_B = sums_BR[:, -1]
    found = {
        "ece": percentile_interval(ratio(np.abs(sums_BR[:, :bins]).sum(axis=1), count_B)),
        "brier": percentile_interval(ratio(sums_BR[:, -2], count_B)),
    }
    return {name: interval for name, interval in found.items() if interval is not None}


def _bins(p_K: Floats, y_K: Floats, bin_K: npt.NDArray[np.intp]) -> tuple[Bin, ...]:
    counts = np.bincount(bin_K)
    filled = np.flatnonzero(counts)
    predicted = np.bincount(bin_K, weights=p_K)[filled] / counts[filled]
    observed = np.bincount(bin_K, weights=y_K)[filled] / counts[filled]
    return tuple(
        Bin(float(p), float(y), int(n))
        for p, y, n in zip(predicted, observed, counts[filled], strict=True)
    )


def _ece(p_K: Floats, y_K: Floats, bin_K: npt.NDArray[np.intp]) -> float:
    bins = _bins(p_K, y_K, bin_K)
    return sum(b.count * abs(b.observed - b.predicted) for b in bins) / len(p_K)
