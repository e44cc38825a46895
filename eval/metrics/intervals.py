"""Percentile intervals by a bootstrap that draws whole groups of queries, seeded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from routers.records import Floats

_CHUNK_CELLS = 20_000_000
_KEPT_CELLS = 20_000_000


@dataclass(frozen=True, slots=True)
class Interval:
    """A range that holds the true value in about `level` of all repetitions."""

    low: float
    high: float

    def as_list(self) -> list[float]:
        return [self.low, self.high]


Spread = tuple[float, float, float]
"""A figure, and the ends of its interval, NaN where it has none."""


class ClusterBootstrap:
    """Draws groups with replacement; near-identical queries are drawn together.

    All statistics computed with one instance share their draws, so that differences are paired.

    Args:
        groups: The group of each query, length N.
        seed: Source of the draws.
        replicates: How many draws, B.

    Source: Efron & Tibshirani, "An Introduction to the Bootstrap", 1993 (percentile interval).
    """

    def __init__(self, groups: Sequence[str], *, seed: int, replicates: int = 1000) -> None:
        if not groups:
            raise ValueError("there is nothing to draw from")
        names, self._group_N = np.unique(np.array(groups, dtype=object), return_inverse=True)
        self._size = len(names)
        self._seed = seed
        self._kept: list[Floats] = []
        self.replicates = replicates

    def sums(self, values_KN: Floats) -> Floats:
        """Σ over the drawn queries of each row of values, shape (B, K)."""
        order_N = np.argsort(self._group_N, kind="stable")
        starts_G = np.searchsorted(self._group_N[order_N], np.arange(self._size))
        sums_GK = np.add.reduceat(np.asarray(values_KN).T[order_N], starts_G, axis=0)
        return np.concatenate([weights_BG @ sums_GK for weights_BG in self._weights()])

    def means(self, values_KN: Floats, weights_KN: Floats) -> Floats:
        """Weighted means Σwv / Σw over the drawn queries, shape (B, K); NaN where Σw is 0."""
        weighted_KN = np.where(weights_KN > 0, values_KN, 0.0) * weights_KN
        both_B2K = self.sums(np.concatenate([weighted_KN, weights_KN]))
        count = len(values_KN)
        return ratio(both_B2K[:, :count], both_B2K[:, count:])

    def weights(self) -> Iterator[Floats]:
        """How often each query was drawn, shape (N,), one replicate after another."""
        for weights_BG in self._weights():
            yield from (weights_G[self._group_N] for weights_G in weights_BG)

    def _weights(self) -> Iterator[Floats]:
        if self.replicates * self._size > _KEPT_CELLS:
            return self._drawn()
        # A comparison asks for them several hundred times.
        self._kept = self._kept or list(self._drawn())
        return iter(self._kept)

    def _drawn(self) -> Iterator[Floats]:
        rng = np.random.default_rng(self._seed)
        chunk = max(1, _CHUNK_CELLS // self._size)
        for start in range(0, self.replicates, chunk):
            yield self._draw(rng, min(chunk, self.replicates - start))

    def _draw(self, rng: np.random.Generator, rows: int) -> Floats:
        drawn = rng.integers(self._size, size=(rows, self._size))
        drawn += np.arange(rows)[:, None] * self._size
        counts = np.bincount(drawn.ravel(), minlength=rows * self._size)
        return counts.reshape(rows, self._size).astype(np.float64)


def ratio(top: Floats, bottom: Floats) -> Floats:
    """`top / bottom`, NaN where the bottom is 0."""
    empty: Floats = np.full(np.shape(top), np.nan)
    return np.divide(top, bottom, out=empty, where=bottom != 0)


def percentile_interval(replicates_B: Floats, level: float = 0.95) -> Interval | None:
    """The middle `level` of the replicates; None when none of them has a value."""
    known = replicates_B[~np.isnan(replicates_B)]
    if not known.size:
        return None
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def with_interval(value: float, drawn_B: Floats) -> Spread:
    """A figure with the 95 % interval of its bootstrap."""
    interval = percentile_interval(drawn_B)
    return (value, interval.low, interval.high) if interval else (value, np.nan, np.nan)
