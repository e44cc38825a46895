"""Intervals around a value, three ways; rows of one conversation count as one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import norm

from eval.metrics.intervals import ClusterBootstrap, Interval, percentile_interval, ratio
from eval.ope.values import RatioTerms
from routers.records import Floats

LEVEL = 0.95


def stderr(terms: RatioTerms, groups: Sequence[str]) -> float:
    """Standard error of the value, by linearisation, over groups; NaN for fewer than two."""
    sums_G = _group_sums(terms.influence, groups)
    count = len(sums_G)
    if count < 2:
        return float("nan")
    spread = float((sums_G**2).sum()) * count / (count - 1)
    return float(np.sqrt(spread)) / len(terms.top_N)


def normal(terms: RatioTerms, groups: Sequence[str], level: float = LEVEL) -> Interval | None:
    """The value ± as many standard errors as a normal distribution has within `level`."""
    half = float(norm.ppf((1 + level) / 2)) * stderr(terms, groups)
    if np.isnan(half) or np.isnan(terms.value):
        return None
    return Interval(terms.value - half, terms.value + half)


def bootstrapped(
    terms: RatioTerms, bootstrap: ClusterBootstrap, level: float = LEVEL
) -> Interval | None:
    """The middle `level` of the values over redrawn groups."""
    sums_B2 = bootstrap.sums(np.stack([terms.top_N, terms.bottom_N]))
    return percentile_interval(ratio(sums_B2[:, 0], sums_B2[:, 1]), level)


def bernstein(
    terms: RatioTerms, groups: Sequence[str], width: float, level: float = LEVEL
) -> Interval | None:
    r"""An interval that holds for any sample size, and is wide for it.

    .. math:: \hat\mu \pm \sqrt{2 V \ln(2/\delta) / n} + \frac{7 b \ln(2/\delta)}{3 (n - 1)}

    Source: Maurer & Pontil, "Empirical Bernstein bounds and sample variance penalization", 2009.

    Args:
        terms: The value.
        groups: The group of each row; n is their number.
        width: b, how far apart two rows' contributions can be.
        level: 1 − δ.
    """
    sums_G = _group_sums(terms.influence, groups)
    count, rows = len(sums_G), len(terms.top_N)
    if count < 2 or np.isnan(terms.value):
        return None
    size_G = _group_sums(np.ones(rows), groups)
    scale = count / rows
    variance = float(np.var(sums_G * scale, ddof=1))
    largest = width * float(size_G.max()) * scale
    log = float(np.log(2 / (1 - level)))
    half = float(np.sqrt(2 * variance * log / count)) + 7 * largest * log / (3 * (count - 1))
    return Interval(terms.value - half, terms.value + half)


def _group_sums(values_N: Floats, groups: Sequence[str]) -> Floats:
    _, group_N = np.unique(np.array(groups, dtype=object), return_inverse=True)
    sums_G: Floats = np.bincount(group_N, weights=values_N).astype(np.float64)
    return sums_G
