"""Tests whether two routers really differ: the same queries, drawn together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from eval.metrics.differences import Compared
from eval.metrics.intervals import ClusterBootstrap, Interval, percentile_interval
from routers.records import Floats

_FLIPS = 2000


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference of two routers in one quantity.

    Attributes:
        difference: The first less the second; NaN unknown.
        ci95: Its 95 % interval, by the paired cluster bootstrap.
        p: Chance of a difference at least this large between routers that do not differ; NaN
            unknown.
    """

    difference: float
    ci95: Interval | None
    p: float


@dataclass(frozen=True, slots=True)
class Pair:
    """Two routers, each at the setting that training chose for it.

    Attributes:
        first: Name of one.
        second: Name of the other.
        quality: Mean score, in [0, 1].
        cost: Dollars per query.
        aiq: Mean height of the whole curves.
        p_holm: `quality.p` corrected for how many pairs were tested (Holm, 1979).
    """

    first: str
    second: str
    quality: Difference
    cost: Difference
    aiq: Difference
    p_holm: float


class PairTest:
    """Paired tests on one set of queries.

    Args:
        groups: The group of each query, length N; a group is drawn, or flipped, as a whole.
        bootstrap: Over the same groups.
        seed: Source of the flips.
    """

    def __init__(self, groups: Sequence[str], bootstrap: ClusterBootstrap, seed: int) -> None:
        names, self._group_N = np.unique(np.array(groups, dtype=object), return_inverse=True)
        rng = np.random.default_rng(seed)
        self._signs_FG = rng.choice(np.array([-1.0, 1.0]), size=(_FLIPS, len(names)))
        self._bootstrap = bootstrap

    def differ(self, both: Compared) -> Difference:
        """Test a difference of means, the p-value by flipping which of the two is which.

        Where both are known for the same queries, swapping the two within a group changes
        nothing if they do not differ, so the p-value is exact but for the number of flips. With
        weights of their own (logged data), it comes from the bootstrap.
        """
        if np.isnan(both.difference):
            return Difference(float("nan"), None, float("nan"))
        means_B2 = both.replicates(self._bootstrap)
        drawn_B = means_B2[:, 0] - means_B2[:, 1]
        interval = percentile_interval(drawn_B)
        if not np.array_equal(*both.weights_2N):
            return Difference(both.difference, interval, _p_of(drawn_B))
        counts_N = both.weights_2N[0] > 0
        gaps_N = np.where(counts_N, both.values_2N[0] - both.values_2N[1], 0.0) * both.weights_2N[0]
        sums_G = np.bincount(self._group_N, gaps_N, self._signs_FG.shape[1])
        flipped_F = np.abs(self._signs_FG @ sums_G)
        as_large = int((flipped_F >= abs(sums_G.sum()) * (1 - 1e-12)).sum())
        return Difference(both.difference, interval, (1 + as_large) / (1 + _FLIPS))

    def drawn(self, difference: float, replicates_B: Floats) -> Difference:
        """Test a difference that has no value per query, by its bootstrap replicates."""
        if np.isnan(difference) or np.isnan(replicates_B).all():
            return Difference(difference, None, float("nan"))
        return Difference(difference, percentile_interval(replicates_B), _p_of(replicates_B))


def _p_of(replicates_B: Floats) -> float:
    """Twice the share of replicates on the far side of nought, at most 1."""
    known = replicates_B[~np.isnan(replicates_B)]
    below = (1 + int((known <= 0).sum())) / (1 + len(known))
    above = (1 + int((known >= 0).sum())) / (1 + len(known))
    return min(1.0, 2 * min(below, above))


def with_holm(pairs: Sequence[Pair]) -> tuple[Pair, ...]:
    """The same pairs with `p_holm`: p-values that stay honest for several tests at once.

    Source: Holm, "A simple sequentially rejective multiple test procedure", 1979.
    """
    known = [at for at, pair in enumerate(pairs) if not np.isnan(pair.quality.p)]
    corrected = [float("nan")] * len(pairs)
    reached = 0.0
    for rank, at in enumerate(sorted(known, key=lambda at: pairs[at].quality.p)):
        reached = max(reached, min(1.0, (len(known) - rank) * pairs[at].quality.p))
        corrected[at] = reached
    return tuple(replace(pair, p_holm=p) for pair, p in zip(pairs, corrected, strict=True))
