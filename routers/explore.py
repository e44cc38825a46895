"""Exploration and the draw: the only place where chance becomes a choice."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from routers.records import Floats

_SUM_TOLERANCE = 1e-6


def with_exploration(
    probabilities_A: Floats, epsilon: float, among_A: npt.NDArray[np.bool_] | None = None
) -> Floats:
    """Mix a distribution with the uniform one: (1 - epsilon) · p + epsilon / A.

    Args:
        probabilities_A: A distribution, shape (A,).
        epsilon: Share of the traffic that explores, in [0, 1].
        among_A: Which experts may be explored, shape (A,); all when None or when none is true.

    Returns:
        A distribution, shape (A,), which gives every explored expert at least epsilon / A.

    Raises:
        ValueError: `probabilities_A` is no distribution, or `epsilon` is outside [0, 1].
    """
    values = _distribution(probabilities_A)
    if not 0 <= epsilon <= 1:
        raise ValueError(f"epsilon must be in [0, 1], got {epsilon!r}")
    if epsilon == 0:
        return probabilities_A
    among = [1.0] * len(values) if among_A is None else among_A.astype(np.float64).tolist()
    count = sum(among)
    if not count:
        among, count = [1.0] * len(values), float(len(values))
    return np.array(
        [(1 - epsilon) * p + epsilon * one / count for p, one in zip(values, among, strict=True)]
    )


def draw(probabilities_A: Floats, uniform: float) -> int:
    """The index that `uniform` picks by the inverse of the cumulative distribution.

    An index of probability zero is never picked. The same number always picks the same index, so
    a decision is replayed from it alone.

    Args:
        probabilities_A: A distribution, shape (A,).
        uniform: A number drawn uniformly from [0, 1).

    Raises:
        ValueError: `probabilities_A` is no distribution, or `uniform` is outside [0, 1).
    """
    values = _distribution(probabilities_A)
    if not 0 <= uniform < 1:
        raise ValueError(f"the uniform number must be in [0, 1), got {uniform!r}")
    cumulative = list(accumulate(values))
    return bisect_right(cumulative, uniform * cumulative[-1])


def _distribution(probabilities_A: Floats) -> list[float]:
    """As a list, which for a handful of experts is several times faster than an array."""
    if probabilities_A.ndim != 1 or not len(probabilities_A):
        raise ValueError(f"a distribution has shape (A,), A >= 1, got {probabilities_A.shape}")
    values: list[float] = probabilities_A.tolist()
    # A NaN makes the sum one, and no comparison with it is true.
    if min(values) >= 0 and abs(sum(values) - 1) <= _SUM_TOLERANCE:
        return values
    raise ValueError(f"not a distribution: {values}")
