"""What each expert is worth whatever is asked, where not all were asked the same questions."""

from __future__ import annotations

import math

import numpy as np

from routers.estimators.observed import Observed
from routers.records import Floats

_ROUNDS = 100
_LEAST_CHANGE = 1e-6
_ROW_STRENGTH = 0.25
_TINY = 1e-12


def standing(outcomes: Observed) -> tuple[Floats, Floats]:
    r"""The mean score that each expert would have on all rows, and its standard error, each (A,).

    Fits score = μ_a + r_i by turns, where the ease r of a row is drawn towards 0 as by a quarter
    of an outcome: an expert that was asked easy questions only is no better for it. Where all were
    asked all, or each row was asked of one, μ is the plain mean. NaN for an expert never observed.

    An expert that few outcomes speak for is lowered by √ln A times what its standard error exceeds
    that of the expert with the most: among A, the luckiest would otherwise look best, the more so
    the more there are. Where all were seen equally often, nobody is lowered.
    """
    weight_NA, score_NA = outcomes.weight_NA, outcomes.score_NA
    mass_A = weight_NA.sum(axis=0)
    mass_N1 = weight_NA.sum(axis=1, keepdims=True)
    total_A = (weight_NA * score_NA).sum(axis=0)
    total_N1 = (weight_NA * score_NA).sum(axis=1, keepdims=True)
    mean_A = np.nan_to_num(outcomes.mean_A)
    for _ in range(_ROUNDS):
        expected_N1 = (weight_NA @ mean_A)[:, None]
        ease_N1 = (total_N1 - expected_N1) / (mass_N1 + _ROW_STRENGTH)
        shifted_A = (total_A - (weight_NA * ease_N1).sum(axis=0)) / np.maximum(mass_A, _TINY)
        change = float(np.abs(shifted_A - mean_A).max())
        mean_A = shifted_A
        if change < _LEAST_CHANGE:
            break
    effective_A = mass_A**2 / np.maximum((weight_NA**2).sum(axis=0), _TINY)
    # As if each had been right once and wrong once more: a perfect record of three is none.
    smooth_A = (effective_A * np.clip(mean_A, 0.0, 1.0) + 1) / (effective_A + 2)
    spread_A = smooth_A * (1 - smooth_A)
    stderr_A = np.sqrt(spread_A / (effective_A + 2))
    surest_A = np.sqrt(spread_A / (effective_A.max() + 2))
    caution = math.sqrt(math.log(max(int(np.count_nonzero(mass_A)), 1)))
    cautious_A = mean_A - caution * (stderr_A - surest_A)
    return np.where(mass_A > 0, cautious_A, np.nan), stderr_A
