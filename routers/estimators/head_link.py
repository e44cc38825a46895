"""From a head's logits to log odds: losses that only rank need a curve of their own."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from routers.estimators.observed import Observed
from routers.records import Floats

Rows = npt.NDArray[np.intp]

_FEWEST_OUTCOMES = 200
_STEPS = 25
_STRENGTH = 5.0
_LONGEST_STEP = 30.0


def linked(
    slope_HA: Floats, offset_A: Floats, inside_NH: Floats, outcomes: Observed, held_out: Rows
) -> tuple[Floats, Floats]:
    r"""Coefficients whose logits are log odds, from coefficients whose logits only rank.

    .. math:: \mathrm{logit}\, q_a(x) = b_a + s (l_a(x) - \bar l(x))

    A loss that ranks leaves open what all logits of a row have in common, so it is taken out. The
    slope s >= 0 is shared, since each expert's own would undo the ranking. Both are of maximum
    likelihood on rows that were held out of training, or on all if these are few.

    Args:
        slope_HA: Of the logits l that only rank, one column per expert.
        offset_A: Their offsets.
        inside_NH: What the head has inside, of each row.
        outcomes: Of these rows, what was observed and what it weighs.
        held_out: Which of them were held out of training.

    Returns:
        s times the slopes less their mean over the experts, (H, A), and the offsets to them, (A,).
    """
    slope_HA = slope_HA - slope_HA.mean(axis=1, keepdims=True)
    ahead_NA = (inside_NH @ slope_HA + offset_A - offset_A.mean()).astype(np.float64)
    if (outcomes.weight_NA[held_out] > 0).sum() >= _FEWEST_OUTCOMES:
        ahead_NA, outcomes = ahead_NA[held_out], outcomes.take(held_out)
    base_A, steepness = _newton(ahead_NA, outcomes)
    return steepness * slope_HA, base_A + steepness * (offset_A - offset_A.mean())


def _newton(ahead_NA: Floats, outcomes: Observed) -> tuple[Floats, float]:
    """Offsets, drawn to the mean log odds as if by a few outcomes, and the slope, at least 0."""
    mean_A = np.nan_to_num(outcomes.mean_A, nan=0.5).clip(0.01, 0.99)
    centre_A = np.log(mean_A / (1 - mean_A))
    offset_A, slope = centre_A.copy(), 0.0
    for _ in range(_STEPS):
        quality_NA = expit(offset_A + slope * ahead_NA)
        pull_NA = outcomes.weight_NA * (outcomes.score_NA - quality_NA)
        bend_NA = outcomes.weight_NA * quality_NA * (1 - quality_NA)
        # The slope's equation with every offset solved for: the matrix is an arrow.
        own_A = bend_NA.sum(axis=0) + _STRENGTH / 4
        mixed_A = (bend_NA * ahead_NA).sum(axis=0)
        pull_A = pull_NA.sum(axis=0) - _STRENGTH / 4 * (offset_A - centre_A)
        bend = float((bend_NA * ahead_NA**2).sum() - (mixed_A**2 / own_A).sum()) + 1e-6
        pull = float((pull_NA * ahead_NA).sum() - (mixed_A * pull_A / own_A).sum())
        step = max(float(np.clip(pull / bend, -_LONGEST_STEP, _LONGEST_STEP)), -slope)
        offset_A = offset_A + np.clip((pull_A - mixed_A * step) / own_A, -2.0, 2.0)
        slope += step
    return offset_A, slope
