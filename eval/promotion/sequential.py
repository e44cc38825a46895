r"""Intervals that may be looked at after every request, for a canary that serves a share of them.

An ordinary 95 % interval that is looked at again and again is wrong far more often than 5 % of the
time. These hold at all times together:

.. math:: \hat\mu_t \pm \hat\sigma_t \sqrt{\frac{2 (t \rho^2 + 1)}{t^2 \rho^2}
    \ln \frac{\sqrt{t \rho^2 + 1}}{\alpha}}

Chance divides conversations, not requests: t counts conversations, and what one of them adds is
all that its requests do. A few long ones tell less than as many requests of their own would.

Source: Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas, "Time-uniform central limit theory and
asymptotic confidence sequences", Annals of Statistics, 2024.
"""

from __future__ import annotations

from collections.abc import Sequence as Names
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import betaln
from scipy.stats import beta

from eval.metrics.intervals import Interval
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
        conversations: That the requests belong to.
        value: Canary less incumbent; NaN before either has a score.
        interval: None while there are too few to say anything.
    """

    count: int
    canary: int
    value: float
    interval: Interval | None
    conversations: int = 0


def difference_so_far(
    reward_N: Floats,
    canary_N: npt.NDArray[np.bool_],
    share: float,
    groups: Names[str] | None = None,
    level: float = LEVEL,
) -> Sequence:
    """How much better the canary is, after conversations were sent there with chance `share`.

    Each reward is corrected by the mean of its side among *earlier* conversations, which takes out
    most of the noise that unequal sides would make and leaves the interval valid (AIPW with
    predictable means).

    Args:
        reward_N: Rewards in the order in which they were decided.
        canary_N: Which of them the canary answered.
        share: P(a conversation goes to the canary), in (0, 1), the same for all of them.
        groups: Which conversation each belongs to; None: each is one of its own.
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
    group_N = _in_order(groups) if groups is not None else np.arange(count)
    own_N = _earlier_mean(reward_N, canary_N, group_N)
    other_N = _earlier_mean(reward_N, ~canary_N, group_N)
    contrast_N = own_N - other_N
    contrast_N += np.where(canary_N, (reward_N - own_N) / share, 0.0)
    contrast_N -= np.where(canary_N, 0.0, (reward_N - other_N) / (1 - share))
    value = float(contrast_N.mean())
    total_G, size_G = np.bincount(group_N, contrast_N), np.bincount(group_N)
    if min(_effective(group_N[side_N]) for side_N in (canary_N, ~canary_N)) < _BURN_IN:
        return Sequence(count, asked, value, None, len(size_G))
    spread = float((total_G - value * size_G).std())
    half = _half_width(spread, len(size_G), level) / float(size_G.mean())
    return Sequence(count, asked, value, Interval(value - half, value + half), len(size_G))


def surely_above(total: float, count: int, most: float, level: float = LEVEL) -> bool:
    r"""Whether the mean of values in [0, 1] is above `most`; any number of looks together may err.

    It is where a bet on that, even over all means above, has made 1 / α of what was staked:

    .. math:: \frac{1}{1 - m} \int_m^1 \Big(\frac{p}{m}\Big)^k
        \Big(\frac{1 - p}{1 - m}\Big)^{n - k} dp \ge \frac{1}{\alpha}

    Source: Robbins, "Statistical Methods Related to the Law of the Iterated Logarithm", 1970.

    Args:
        total: k, the sum of the values.
        count: n, how many there are.
        most: m, >= 0.
        level: 1 − α.
    """
    if total <= count * most:
        return False
    if most == 0:
        return True
    ones, zeros = total + 1, count - total + 1
    won = betaln(ones, zeros) + beta.logsf(most, ones, zeros) - np.log1p(-most)
    staked = total * np.log(most) + (count - total) * np.log1p(-most)
    return bool(won - staked >= -np.log(1 - level))


def _effective(group_N: npt.NDArray[np.intp]) -> float:
    """So many groups of one size would tell as much as these, of which some are large."""
    size_G = np.bincount(group_N).astype(np.float64)
    return float(size_G.sum() ** 2 / (size_G**2).sum())


def _in_order(groups: Names[str]) -> npt.NDArray[np.intp]:
    """The number of each one's group, counted as they first appear."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(group, len(numbers)) for group in groups], dtype=np.intp)


def _half_width(spread: float, count: int, level: float) -> float:
    alpha = 1 - level
    log = -2 * np.log(alpha)
    rho2 = (log + np.log(log + 1)) / TIGHTEST_AT
    scaled = count * rho2 + 1
    return float(spread * np.sqrt(2 * scaled / (count**2 * rho2) * np.log(np.sqrt(scaled) / alpha)))


def _earlier_mean(
    reward_N: Floats, side_N: npt.NDArray[np.bool_], group_N: npt.NDArray[np.intp]
) -> Floats:
    """Mean of the side's rewards in groups before each one's own; the middle without any yet."""
    counted_G = np.bincount(group_N, side_N.astype(np.float64))
    total_G = np.bincount(group_N, np.where(side_N, reward_N, 0.0))
    before_G = np.cumsum(total_G) - total_G
    means_G: Floats = (before_G + 0.5) / (np.cumsum(counted_G) - counted_G + 1)
    return means_G[group_N]
