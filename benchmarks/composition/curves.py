"""Part b: cascade routing against plain routing and plain cascades, over all prices of quality."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eval.compositions.offered import frontier
from eval.compositions.world import CompositionWorld, Side
from eval.metrics.curves import aiq
from eval.metrics.intervals import ClusterBootstrap, Spread, with_interval
from routers.cascading.replay import Replay
from routers.cascading.routing import CascadeRouting
from routers.deferral.chain import search
from routers.estimators.folds import group_folds, others
from routers.records import Floats

PRICES = (0.0, *np.geomspace(1e-2, 1e3, 40).tolist())
"""Quality points per mean request to the dearest expert."""
_FOLDS = 3
_DEPTHS = (1, 2, 3)
_BEYOND_CHANCE = 1.64
_REPLICATES = 300


@dataclass(frozen=True, slots=True)
class Curve:
    """What one set shows; areas with 95 % intervals, those of differences paired."""

    name: str
    rows: str
    count: int
    chosen: str
    routing: Spread
    cascade: Spread
    both: Spread
    over_routing: Spread
    over_cascade: Spread


@dataclass(frozen=True, slots=True, eq=False)
class _Points:
    """Score and dollars of each request under each setting, shape (K, N)."""

    score_KN: Floats
    usd_KN: Floats


def measured(name: str, what: str, worlds: Sequence[CompositionWorld], seed: int = 0) -> Curve:
    """All three ways on the test side of `worlds`, whose rows are put together."""
    kinds: dict[str, list[_Points]] = {"routing": [], "cascade": [], "both": []}
    chosen = []
    for world in worlds:
        way = _choose(world.experts, world.train, seed)
        chosen.append(way.name)
        prices = np.array(PRICES) / world.train.table.cost_usd_NA.mean(axis=0).max()
        replay = _replay(world.experts, world.train, world.test, way.learn, seed)
        kinds["routing"].append(_of_prices(replay, world.test, prices, 1))
        kinds["cascade"].append(_of_chains(world.train, world.test, prices))
        kinds["both"].append(
            _of_prices(replay, world.test, prices, way.depth) if way.depth else kinds["cascade"][-1]
        )
    groups = [group for world in worlds for group in world.test.table.groups]
    cost_A = np.concatenate([world.test.table.cost_usd_NA for world in worlds]).mean(axis=0)
    ends = float(cost_A.min()), float(cost_A.max())
    areas = {
        kind: _areas([np.hstack([p.usd_KN for p in parts]), np.hstack([p.score_KN for p in parts])],
                     groups, ends, seed)
        for kind, parts in kinds.items()
    }  # fmt: skip
    found = {kind: with_interval(value, drawn) for kind, (value, drawn) in areas.items()}
    over = {
        kind: with_interval(areas["both"][0] - areas[kind][0], areas["both"][1] - areas[kind][1])
        for kind in ("routing", "cascade")
    }
    return Curve(
        name, what, len(groups), "; ".join(dict.fromkeys(chosen)), found["routing"],
        found["cascade"], found["both"], over["routing"], over["cascade"],
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Way:
    """Cascade routing of a depth, or cascades, which are what it comes out as in the end.

    Attributes:
        depth: 1 is routing; 0: cascades.
        learn: Whether answers tell of others.
    """

    depth: int
    learn: bool = True

    @property
    def name(self) -> str:
        if self.depth < 2:
            return "routing" if self.depth else "cascades"
        return f"depth {self.depth}{'' if self.learn else ', own signals'}"


def _replay(experts: tuple[str, ...], train: Side, test: Side, learn: bool, seed: int) -> Replay:
    rng = np.random.default_rng(seed)
    table = train.table
    rule = CascadeRouting.fit(
        experts, train.seen, table.score_NA, table.groups, rng, depth=max(_DEPTHS), learn=learn
    )
    return Replay(rule, test.seen, test.usd_NA)


def _choose(experts: tuple[str, ...], train: Side, seed: int) -> _Way:
    """By cross-validation on the training side: routing, unless another's gain is beyond chance.

    Of several ways that are equally good one is the best by luck, and then worse on other requests.
    """
    rows = len(train.table)
    prices = np.array(PRICES) / train.table.cost_usd_NA.mean(axis=0).max()
    points: dict[_Way, list[_Points]] = {}
    groups: list[str] = []
    for held in group_folds(train.table.groups, _FOLDS, np.random.default_rng(seed)):
        known, new = _part(train, others(held, rows)), _part(train, held)
        groups += new.table.groups
        points.setdefault(_Way(0), []).append(_of_chains(known, new, prices))
        for learn in (True, False):
            replay = _replay(experts, known, new, learn, seed)
            for depth in _DEPTHS:
                way = _Way(depth, learn or depth == 1)
                if depth > 1 or learn:
                    points.setdefault(way, []).append(_of_prices(replay, new, prices, depth))
    cost_A = train.table.cost_usd_NA.mean(axis=0)
    ends = float(cost_A.min()), float(cost_A.max())
    area = {
        way: _areas(
            [np.hstack([p.usd_KN for p in parts]), np.hstack([p.score_KN for p in parts])],
            groups, ends, seed,
        )
        for way, parts in points.items()
    }  # fmt: skip
    plain = _Way(1)
    best = max(area, key=lambda way: area[way][0])
    gain, drawn_B = area[best][0] - area[plain][0], area[best][1] - area[plain][1]
    return best if gain > _BEYOND_CHANCE * float(drawn_B.std()) else plain


def _part(side: Side, rows: np.ndarray) -> Side:
    drafts = side.drafts.take(rows.tolist(), list(range(len(side.table.experts))))
    return Side(side.table.take(rows), drafts, side.seen.take(rows), side.usd_NA[rows])


def _of_prices(replay: Replay, side: Side, prices: Floats, depth: int) -> _Points:
    trips = [replay.run(float(price), depth) for price in prices]
    return _Points(
        np.stack([trip.score(side.table.score_NA) for trip in trips]),
        np.stack([trip.usd(side.table.cost_usd_NA) for trip in trips]),
    )


def _of_chains(train: Side, test: Side, prices: Floats) -> _Points:
    """For each price the chain of FrugalGPT that is best at it on the training side."""
    chains = frontier(search(train.logged))
    best = [max(chains, key=lambda c: c.quality - price * c.cost_usd) for price in prices]
    pairs = [chain.replay(test.logged) for chain in best]
    return _Points(np.stack([score for score, _ in pairs]), np.stack([usd for _, usd in pairs]))


def _areas(
    both: list[Floats], groups: Sequence[str], ends: tuple[float, float], seed: int
) -> tuple[float, Floats]:
    usd_KN, score_KN = both
    settings = len(usd_KN)
    bootstrap = ClusterBootstrap(groups, seed=seed, replicates=_REPLICATES)
    values = np.vstack([usd_KN, score_KN])
    drawn_BK = bootstrap.means(values, np.ones(values.shape))
    drawn_B = np.array([_area(row[:settings], row[settings:], ends) for row in drawn_BK])
    return _area(usd_KN.mean(axis=1), score_KN.mean(axis=1), ends), drawn_B


def _area(usd_K: Floats, quality_K: Floats, ends: tuple[float, float]) -> float:
    """AIQ; below its cheapest setting a curve is as high as there."""
    low, high = ends
    least = float(usd_K.min())
    if least > low:
        first = quality_K[usd_K.argmin()]
        usd_K, quality_K = np.append(usd_K, low), np.append(quality_K, first)
    return aiq(usd_K, quality_K, low, high)
