r"""Intervals that may be looked at after every request, for a canary that serves a share of them.

An ordinary 95 % interval that is looked at again and again is wrong far more often than 5 % of the
time. These hold at all times together:

.. math:: \hat\mu_t \pm \hat\sigma_t \sqrt{\frac{2 (t \rho^2 + 1)}{t^2 \rho^2}
    \ln \frac{\sqrt{t \rho^2 + 1}}{\alpha}}

Source: Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas, "Time-uniform central limit theory and
asymptotic confidence sequences", Annals of Statistics, 2024.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from eval.intervals import Interval
from routers.records import Floats

LEVEL = 0.95
TIGHTEST_AT = 500
"""Requests after which the sequence is about as narrow as it can be for that many."""
_BURN_IN = 30


@dataclass(frozen=True, slots=True)
class Sequence:
    """A difference with the interval that may be looked at now.

    Attributes:
        count: Scored requests, of both sides.
        canary: Those of the canary.
        value: Canary less incumbent; NaN before either has a score.
        interval: None while there are too few to say anything.
    """

    count: int
    canary: int
    value: float
    interval: Interval | None


def difference_so_far(
    reward_N: Floats, canary_N: npt.NDArray[np.bool_], share: float, level: float = LEVEL
) -> Sequence:
    """How much better the canary is, after each request was sent there with chance `share`.

    Each reward is corrected by the mean of its side among *earlier* requests, which takes out most
    of the noise that unequal sides would make and leaves the interval valid (AIPW with predictable
    means).

    Args:
        reward_N: Rewards in the order in which they were decided.
        canary_N: Which of them the canary answered.
        share: P(a request goes to the canary), in (0, 1), the same for all of them.
        level: 1 − α.

    Raises:
        ValueError: The share is not in (0, 1), or the lengths differ.
    """
    if not 0 < share < 1:
        raise ValueError(f"the canary's share must be in (0, 1), got {share!r}")
    if len(reward_N) != len(canary_N):
        raise ValueError(f"{len(reward_N)} rewards for {len(canary_N)} assignments")
    count, asked = len(reward_N), int(canary_N.sum())
    if not 0 < asked < count:
        return Sequence(count, asked, float("nan"), None)
    own_N, other_N = _earlier_mean(reward_N, canary_N), _earlier_mean(reward_N, ~canary_N)
    contrast_N = own_N - other_N
    contrast_N += np.where(canary_N, (reward_N - own_N) / share, 0.0)
    contrast_N -= np.where(canary_N, 0.0, (reward_N - other_N) / (1 - share))
    value = float(contrast_N.mean())
    if min(asked, count - asked) < _BURN_IN:
        return Sequence(count, asked, value, None)
    half = _half_width(float(contrast_N.std()), count, level)
    return Sequence(count, asked, value, Interval(value - half, value + half))


def _half_width(spread: float, count: int, level: float) -> float:
    alpha = 1 - level
    log = -2 * np.log(alpha)
    rho2 = (log + np.log(log + 1)) / TIGHTEST_AT
    scaled = count * rho2 + 1
    return float(spread * np.sqrt(2 * scaled / (count**2 * rho2) * np.log(np.sqrt(scaled) / alpha)))


def _earlier_mean(reward_N: Floats, side_N: npt.NDArray[np.bool_]) -> Floats:
    """Mean of the side's rewards before each request; the middle where there is none yet."""
    counted_N: Floats = np.cumsum(side_N).astype(np.float64) - side_N
    total_N = np.cumsum(np.where(side_N, reward_N, 0.0)) - np.where(side_N, reward_N, 0.0)
    means_N: Floats = (total_N + 0.5) / (counted_N + 1)
    return means_N
