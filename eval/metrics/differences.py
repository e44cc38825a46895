"""How much better or cheaper one way of choosing experts is than another, on the same queries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eval.metrics.intervals import ClusterBootstrap, Interval, percentile_interval, ratio
from eval.replay.replay import ReplayedTraffic
from routers.records import Floats, OutcomeTable


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """One quantity under two ways of choosing, query by query.

    Attributes:
        values_2N: What each led to; anything where the weight is 0.
        weights_2N: How much each query counts for each.
    """

    values_2N: Floats
    weights_2N: Floats

    @property
    def means(self) -> tuple[float, float]:
        """Weighted mean of each; NaN where nothing counts."""
        first, second = _ratio_means(self.values_2N, self.weights_2N)
        return float(first), float(second)

    @property
    def difference(self) -> float:
        """First mean less second."""
        first, second = self.means
        return first - second

    @property
    def stderr(self) -> float:
        """Standard error of the difference, by linearisation; NaN for fewer than two queries."""
        counts = int((self.weights_2N > 0).any(axis=0).sum())
        if counts < 2:
            return float("nan")
        means_2 = _ratio_means(self.values_2N, self.weights_2N)[:, None]
        residual_2N = self.weights_2N * (
            np.where(self.weights_2N > 0, self.values_2N, 0.0) - means_2
        )
        influence_N = residual_2N[0] / self.weights_2N[0].sum()
        influence_N = influence_N - residual_2N[1] / self.weights_2N[1].sum()
        return float(np.sqrt(np.sum(influence_N**2) * counts / (counts - 1)))

    def replicates(self, bootstrap: ClusterBootstrap) -> Floats:
        """Both means in every replicate, shape (B, 2)."""
        return bootstrap.means(self.values_2N, self.weights_2N)

    def interval(self, bootstrap: ClusterBootstrap) -> Interval | None:
        """95 % interval of the difference, both means drawn together."""
        means_B2 = self.replicates(bootstrap)
        return percentile_interval(means_B2[:, 0] - means_B2[:, 1])


def is_logged(table: OutcomeTable) -> bool:
    """Whether experts were drawn with recorded chances, instead of every one being asked."""
    return bool((table.propensity_NA < 1).any())


def compared(
    first: ReplayedTraffic,
    second: ReplayedTraffic,
    what: str,
    *,
    logged: bool,
    rows: Floats | None = None,
) -> Compared:
    """Put two ways of choosing side by side.

    Where every expert was asked, only queries known for both count, so that they are judged by
    the same questions. In logged data, where one expert was asked, each has its own weights.

    Args:
        first: What the difference is of.
        second: What is taken off.
        what: `quality`, `cost` or `latency`.
        logged: See `is_logged`.
        rows: 1 for the queries that count, 0 for others, shape (N,); all when None.
    """
    values = [getattr(each, f"{what}_N") for each in (first, second)]
    weights = [getattr(each, f"{what}_weight_N") for each in (first, second)]
    if not logged:
        common = ((weights[0] > 0) & (weights[1] > 0)).astype(np.float64)
        weights = [common, common]
    if rows is not None:
        weights = [each * rows for each in weights]
    return Compared(np.stack(values), np.stack(weights))


def _ratio_means(values_2N: Floats, weights_2N: Floats) -> Floats:
    sums_2 = (np.where(weights_2N > 0, values_2N, 0.0) * weights_2N).sum(axis=1)
    return ratio(sums_2, weights_2N.sum(axis=1))
