"""How much better than the best single expert another must look before it is worth leaving."""

from __future__ import annotations

import numpy as np

from routers.estimators.observed import Observed
from routers.records import Floats

# Beyond the last nobody is left for a few outcomes' sake.
PREMIUMS = (0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1)
_TINY = 1e-12


def premium(unseen_NA: Floats, base_NA: Floats, outcomes: Observed, best: int) -> float:
    r"""The smallest premium for the best single expert with which choosing has proved no worse.

    On rows that were held out, whoever is expected to be best, the best single expert's quality
    raised by the premium, gains over it

    .. math:: g_i = b_c - b_s + w_{ic} (y_{ic} - b_c) - w_{is} (y_{is} - b_s)

    with c the choice, s the single expert, b what is expected of experts whatever is asked, and w
    the inverse propensity or 0 where nothing was observed (Dudík et al., "Doubly robust policy
    evaluation and learning", 2011); plainly the difference of scores where all were asked all.
    The mean gain must be at least its standard error. Of many that are nearly as good, the one
    that looks best is so by luck: the more there are, and the fewer rows, the more it takes.

    Args:
        unseen_NA: Qualities predicted out of fold, NaN where there are none.
        base_NA: Standing of the experts in the rows that those were learned from.
        outcomes: What was observed.
        best: Column of the best single expert.

    Returns:
        One of `PREMIUMS`; the last where none is enough, the first where nothing was held out.
    """
    judged = np.flatnonzero(~np.isnan(unseen_NA[:, best]))
    if len(judged) < 2:
        return PREMIUMS[0]
    seen_A = (outcomes.weight_NA[judged] > 0).sum(axis=0)
    base_JA = base_NA[judged]
    scale_A = len(judged) / np.maximum(seen_A, 1)
    left_JA = outcomes.weight_NA[judged] * scale_A * (outcomes.score_NA[judged] - base_JA)
    value_JA = np.where(np.isnan(base_JA), -np.inf, base_JA + np.nan_to_num(left_JA))
    looks_JA = np.where(np.isnan(unseen_NA[judged]) | (seen_A == 0), -np.inf, unseen_NA[judged])
    rows = np.arange(len(judged))
    for candidate in PREMIUMS:
        raised_JA = looks_JA.copy()
        raised_JA[:, best] += candidate
        gain_J = value_JA[rows, raised_JA.argmax(axis=1)] - value_JA[:, best]
        if gain_J.mean() >= gain_J.std() / np.sqrt(len(judged)) - _TINY:
            return candidate
    return PREMIUMS[-1]
