"""How much of the way from a weak to a strong expert a router goes, by share of strong calls."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from routers.records import Floats


@dataclass(frozen=True, slots=True, eq=False)
class PgrCurve:
    """Performance gap recovered, from no strong calls to all.

    Attributes:
        share_K: Share of queries that go to the strong expert, from 0 to 1.
        pgr_K: (quality - weak) / (strong - weak) at that share; 0 at the start and 1 at the end.
    """

    share_K: Floats
    pgr_K: Floats

    @property
    def apgr(self) -> float:
        """Area under the curve; random routing has .5, an oracle may have more than 1."""
        return float(np.trapezoid(self.pgr_K, self.share_K))

    def cpt(self, recovered: float) -> float:
        """Smallest strong share at which that much of the gap is recovered, by first crossing."""
        above = np.flatnonzero(self.pgr_K >= recovered)
        if not above.size:
            return float("nan")
        at = int(above[0])
        if at == 0:
            return 0.0
        low, high = self.pgr_K[at - 1], self.pgr_K[at]
        step = self.share_K[at] - self.share_K[at - 1]
        return float(self.share_K[at - 1] + step * (recovered - low) / (high - low))


def pgr_curve(
    advantage_N: Floats, weak_N: Floats, strong_N: Floats, weights_N: Floats | None = None
) -> PgrCurve | None:
    """Send queries to the strong expert one by one, by falling advantage.

    Queries of equal advantage go together, which is what drawing among them gives on average.

    Args:
        advantage_N: What the router expects the strong expert to gain, any scale, shape (N,).
        weak_N: Scores of the weak expert; queries where either score is NaN are left out.
        strong_N: Scores of the strong expert.
        weights_N: How much each query counts, >= 0; all the same when None.

    Returns:
        None where the strong expert is not better on these queries: there is no gap to recover.

    Source: Ong et al., "RouteLLM", 2024; thresholds at every query instead of ten quantiles.
    """
    weights_N = np.ones(len(advantage_N)) if weights_N is None else weights_N
    return _curve(*_queue(advantage_N, weak_N, strong_N), weights_N)


def apgr_replicates(
    advantage_N: Floats, weak_N: Floats, strong_N: Floats, weights: Iterable[Floats]
) -> Floats:
    """APGR under each vector of query weights; NaN where there is no gap to recover."""
    queue = _queue(advantage_N, weak_N, strong_N)
    curves = (_curve(*queue, weights_N) for weights_N in weights)
    return np.array([curve.apgr if curve else np.nan for curve in curves])


def _queue(
    advantage_N: Floats, weak_N: Floats, strong_N: Floats
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Floats]:
    """Queries by falling advantage, where each run of equals ends, and what each gains."""
    known = np.flatnonzero(~np.isnan(weak_N + strong_N + advantage_N))
    order = known[np.argsort(-advantage_N[known], kind="stable")]
    ends = np.flatnonzero(np.append(np.diff(advantage_N[order]) != 0, True)[: len(order)])
    return order, ends, (strong_N - weak_N)[order]


def _curve(
    order: npt.NDArray[np.intp], ends: npt.NDArray[np.intp], gain: Floats, weights_N: Floats
) -> PgrCurve | None:
    weight = np.cumsum(weights_N[order])
    gained = np.cumsum(weights_N[order] * gain)
    if not order.size or gained[-1] <= 1e-12 * max(weight[-1], 1.0):
        return None
    share, pgr = weight[ends] / weight[-1], gained[ends] / gained[-1]
    return PgrCurve(np.append(0.0, share), np.append(0.0, pgr))


def weak_and_strong(quality_A: Floats, cost_A: Floats, strong: int) -> tuple[int, int] | None:
    """The pair of experts that the curve is drawn between, by column; the rest of a pool is left.

    Weak is the cheapest expert, or the worst where costs are unknown or the cheapest is no worse
    than the strong one. None when all are equally good.

    Args:
        quality_A: Mean quality of each on the training side; NaN for those not in question.
        cost_A: Mean cost of each; NaN unknown.
        strong: Column of the best single expert.
    """
    usable: npt.NDArray[np.bool_] = ~np.isnan(quality_A)
    if usable.sum() < 2:
        return None
    weak = int(np.nanargmin(quality_A))
    if not np.isnan(cost_A[usable]).any():
        cheapest = int(np.nanargmin(np.where(usable, cost_A, np.nan)))
        weak = cheapest if quality_A[cheapest] < quality_A[strong] else weak
    return (weak, strong) if quality_A[weak] < quality_A[strong] else None
