"""Takes out of scores what they owe to the length of an answer (ArmoRM, arXiv 2406.12845)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from eval.errors import ComparisonError
from routers.records import Floats

MOST_CORRELATION = 0.028
"""Rank correlation with length that is left at most; ArmoRM's."""
_STEPS = 30


def length_weight(
    score_N: Floats, length_N: npt.ArrayLike, most: float = MOST_CORRELATION
) -> float:
    """The smallest λ >= 0 with Spearman(score − λ·length, length) <= `most`.

    The correlation falls as λ grows: between two λ the order of a pair can only turn against the
    longer answer. So λ is found by halving, to one part in 10^9 of the largest that matters.

    Args:
        score_N: What was scored; no NaN.
        length_N: Length of each answer, in any unit: characters, tokens, or a score of verbosity.
        most: Correlation that may be left.

    Raises:
        ComparisonError: Lengths of another shape, fewer than 3 rows, or numbers that are none.
    """
    score_N, length_N = np.asarray(score_N, float), np.asarray(length_N, float)
    if score_N.ndim != 1 or score_N.shape != length_N.shape or len(score_N) < 3:
        raise ComparisonError("debiasing needs three or more scores, and a length for each")
    if not (np.isfinite(score_N).all() and np.isfinite(length_N).all()):
        raise ComparisonError("debiasing needs scores and lengths that are numbers")
    if np.ptp(length_N) == 0 or _correlation(score_N, length_N) <= most:
        return 0.0
    low, high = 0.0, float(np.ptp(score_N) / np.ptp(length_N)) or 1.0
    while _correlation(score_N - high * length_N, length_N) > most:
        high *= 2.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if _correlation(score_N - middle * length_N, length_N) <= most:
            high = middle
        else:
            low = middle
    return high


def debiased(score_NK: Floats, length_N: npt.ArrayLike, most: float = MOST_CORRELATION) -> Floats:
    """Each column of scores less its own λ times length, see `length_weight`; means stay."""
    length_N = np.asarray(length_N, float)
    weight_K = np.array([length_weight(column_N, length_N, most) for column_N in score_NK.T])
    return np.asarray(score_NK - weight_K * (length_N - length_N.mean())[:, None], float)


def _correlation(score_N: Floats, length_N: Floats) -> float:
    if np.ptp(score_N) == 0:
        return 0.0
    return float(np.corrcoef(rankdata(score_N), rankdata(length_N))[0, 1])
