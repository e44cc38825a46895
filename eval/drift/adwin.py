"""ADWIN: a window that is as long as nothing in it has changed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from routers.records import Floats

_EVERY = 32
_FEWEST = 5


@dataclass(frozen=True, slots=True)
class Adwin:
    """When a change of mean is one, by two parts of a window whose means differ too much.

    Attributes:
        delta: Chance of a false cut that each look at a window is meant to have at most, in (0, 1).
        least_rows: No cut before so many values.
    """

    delta: float = 0.002
    least_rows: int = 30


@dataclass(frozen=True, slots=True)
class Cut:
    """A change that was found.

    Attributes:
        start: Where the window began until then.
        began: First value of what is new.
        found: Value at which it could be told.
    """

    start: int
    began: int
    found: int


def last_cut(value_N: Floats, rules: Adwin) -> Cut | None:
    r"""The last change in a stream; None where there is none.

    Every 32 values, all ways to part the window in two are looked at. With n₀ and n₁ values, means
    μ₀ and μ₁, and σ² the variance of the window, it is cut where

    .. math:: |\mu_0 - \mu_1| > \sqrt{\frac{2}{m} \sigma^2 \ln\frac{2 \ln n}{\delta}}
        + \frac{2}{3 m} \ln\frac{2 \ln n}{\delta}, \quad \frac1m = \frac1{n_0} + \frac1{n_1}

    by the largest factor, until no part differs. The published algorithm looks at about log n ways
    and drops values from the old end; a whole stream is at hand here, and where it changed is
    wanted too.

    Args:
        value_N: In their order, in [0, 1].
        rules: When a change is one.

    Source: Bifet & Gavaldà, "Learning from Time-Changing Data with Adaptive Windowing", 2007.
    """
    latest, start = None, 0
    for end in range(_EVERY, len(value_N) + 1, _EVERY):
        before = start
        while end - start >= rules.least_rows:
            place = _worst(value_N[start:end], rules.delta)
            if place is None:
                break
            start += place
        if start > before:
            latest = Cut(before, start, end - 1)
    return latest


def _worst(window_W: Floats, delta: float) -> int | None:
    """Where the two sides differ by most of what they may, None if nowhere by more."""
    count, total = len(window_W), float(window_W.sum())
    old_S = np.arange(_FEWEST, count - _FEWEST + 1)
    if not len(old_S):
        return None
    head_S = np.cumsum(window_W)[old_S - 1]
    apart_S = np.abs(head_S / old_S - (total - head_S) / (count - old_S))
    times_S = apart_S / _allowed(old_S, count, float(window_W.var()), delta)
    best = int(times_S.argmax())
    return int(old_S[best]) if times_S[best] > 1 else None


def _allowed(old_S: npt.NDArray[np.int_], count: int, variance: float, delta: float) -> Floats:
    inverse_S = 1 / old_S + 1 / (count - old_S)
    log = np.log(2 * np.log(count) / delta)
    return np.asarray(np.sqrt(2 * inverse_S * variance * log) + 2 / 3 * log * inverse_S)
