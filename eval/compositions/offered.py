"""Which compositions of a pool are worth offering to a router, chosen on the training side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from eval.compositions.virtual import Agreed, Cascaded, Composition, Picked, Voted
from eval.compositions.world import Side
from eval.metrics.curves import upper_hull
from routers.deferral.chain import Chain
from routers.deferral.threshold import DeferralThreshold

_SHARES = (0.15, 0.3, 0.5)
_MOST_PAIRS = 4
_VOTERS = 3


def offered(train: Side) -> list[Composition]:
    """Cascades of two at three shares of deferral, and votes and best-ofs of three experts.

    Only what nothing else beats in both quality and cost is offered. Thresholds are quantiles of
    the signal alone: had they been chosen by the scores, as `routers.deferral.chain.search` does,
    a cascade would look better on these rows than it is, and a router that learns from them would
    take it for what it looks like.

    Args:
        train: What is learned from.
    """
    found: list[Composition] = []
    for first, last in _pairs(train):
        signal_N = train.seen.signal_NA[:, train.table.experts.index(first)]
        for share in _SHARES:
            threshold = DeferralThreshold.of_share(signal_N, share)
            found.append(Cascaded(Chain((first, last), (threshold,), np.nan, np.nan)))
    best = train.table.experts[int(train.table.score_NA.mean(axis=0).argmax())]
    for voters in _panels(train):
        found.append(Picked(voters))
        if train.seen.same_NAA is not None:
            found.append(Voted(voters))
            others = [voter for voter in voters if voter != best]
            # In a pool of three the best is always a voter, and who else agrees is told by two.
            if best not in voters[:2] or len(train.table.experts) == _VOTERS:
                found.append(Agreed((others[0], others[1]), best))
    return _worth_it(train, list({each.name: each for each in found}.values()))


def _worth_it(train: Side, compositions: Sequence[Composition]) -> list[Composition]:
    """Those that no expert and no other composition beats in both quality and cost."""
    table = train.table
    happened = [each.on(train) for each in compositions]
    points = [(float(h.usd(table).mean()), float(h.score_N.mean())) for h in happened]
    singles = zip(table.cost_usd_NA.mean(axis=0), table.score_NA.mean(axis=0), strict=True)
    everyone = [*points, *((float(cost), float(good)) for cost, good in singles)]
    return [
        composition
        for composition, (cost, good) in zip(compositions, points, strict=True)
        if not any(c <= cost and q >= good and (c, q) != (cost, good) for c, q in everyone)
    ]


def _pairs(train: Side) -> list[tuple[str, str]]:
    """Cheap experts on the frontier, the best first, each with the next better and the best."""
    table = train.table
    cost_A, quality_A = table.cost_usd_NA.mean(axis=0), table.score_NA.mean(axis=0)
    ladder: list[int] = []
    for column in np.argsort(cost_A, kind="stable").tolist():
        if not ladder or quality_A[column] > quality_A[ladder[-1]]:
            ladder.append(column)
    pairs = [
        (table.experts[low], table.experts[high])
        for place, low in reversed(list(enumerate(ladder[:-1])))
        for high in (ladder[-1], ladder[place + 1])
    ]
    return list(dict.fromkeys(pairs))[:_MOST_PAIRS]


def frontier(chains: Sequence[Chain]) -> list[Chain]:
    """The chains on the concave hull of quality over cost: none is beaten by mixing two others."""
    cost, quality = (np.array([getattr(c, n) for c in chains]) for n in ("cost_usd", "quality"))
    hull = upper_hull(cost, quality)
    corners = set(zip(hull.cost_V.tolist(), hull.quality_V.tolist(), strict=True))
    return [chain for chain in chains if (chain.cost_usd, chain.quality) in corners]


def _panels(train: Side) -> list[tuple[str, ...]]:
    """The best experts among the cheaper half, among the cheaper three quarters, and of all."""
    table = train.table
    cost_A, quality_A = table.cost_usd_NA.mean(axis=0), table.score_NA.mean(axis=0)
    by_cost = np.argsort(cost_A, kind="stable")
    panels = []
    for part in (0.5, 0.75, 1.0):
        able = by_cost[: max(int(np.ceil(part * len(by_cost))), min(_VOTERS, len(by_cost)))]
        best = able[np.argsort(-quality_A[able], kind="stable")][:_VOTERS]
        panels.append(tuple(table.experts[column] for column in best))
    return [panel for panel in dict.fromkeys(panels) if len(panel) > 1]
