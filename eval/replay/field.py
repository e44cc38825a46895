"""The whole field of a comparison: every way of choosing experts, replayed on the test side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from eval.metrics.figures import Layout
from eval.replay.baselines import (
    STRONG_SHARES,
    Singles,
    length_choice,
    oracle_choice,
    random_choice,
    single,
    task_choice,
    task_means,
)
from eval.replay.oracles import hindsight_choice
from eval.replay.replay import ReplayedTraffic, measure
from eval.replay.training import TrainedRouter
from eval.tables.pool import TrainTestPool

ROUTER = "router:"
BASELINE = "baseline:"


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """All that is compared, in one list.

    Attributes:
        traffic: What every way of choosing led to, length K.
        settings: The knob's value at each, None where there is none, length K.
        layout: Where each stands; curves are called `ROUTER + name` or `BASELINE + name`.
        experts: Column of each expert to its position.
    """

    traffic: tuple[ReplayedTraffic, ...]
    settings: tuple[float | None, ...]
    layout: Layout
    experts: Mapping[int, int]


class _List:
    def __init__(self) -> None:
        self.traffic: list[ReplayedTraffic] = []
        self.settings: list[float | None] = []

    def add(self, traffic: Sequence[ReplayedTraffic], settings: Sequence[float | None]) -> slice:
        start = len(self.traffic)
        self.traffic += traffic
        self.settings += settings
        return slice(start, len(self.traffic))

    def add_one(self, traffic: ReplayedTraffic) -> int:
        self.add([traffic], [None])
        return len(self.traffic) - 1


def make_field(
    pool: TrainTestPool,
    alone: Singles,
    trained: Sequence[TrainedRouter],
    cost_weights: Sequence[float],
) -> Field:
    """Replay every baseline and line them up with the routers.

    Experts that were seen on too few queries to be judged (see `Singles`) are measured too, but
    no curve leans on them.
    """
    listed, test = _List(), pool.test
    judged = [int(column) for column in np.flatnonzero(~np.isnan(alone.quality_A))]
    others = [column for column in range(len(test.experts)) if column not in judged]
    traffic = [measure(test, single(test, column)) for column in (*judged, *others)]
    listed.add(traffic, [None] * len(traffic))
    positions = {column: at for at, column in enumerate((*judged, *others))}
    random = listed.add_one(measure(test, random_choice(test)))
    oracle = listed.add_one(measure(test, oracle_choice(test)))
    hindsight = hindsight_choice(test, alone.best)
    task_hindsight = None if hindsight is None else listed.add_one(measure(test, hindsight))
    singles = slice(0, len(judged))
    curves = {f"{BASELINE}zero_router": singles}
    for name, (points, settings) in _sweeps(pool, alone, cost_weights).items():
        curves[BASELINE + name] = listed.add(points, settings)
    for router in trained:
        curves[ROUTER + router.name] = listed.add(router.sweep.traffic, router.sweep.cost_weights)
    # The first setting of every sweep is the one to which cost is nothing.
    learned = curves.get(f"{BASELINE}task_oracle")
    layout = Layout(
        singles,
        random,
        oracle,
        positions[alone.best],
        curves,
        task_learned=None if learned is None else learned.start,
        task_hindsight=task_hindsight,
    )
    return Field(tuple(listed.traffic), tuple(listed.settings), layout, positions)


def _sweeps(
    pool: TrainTestPool, alone: Singles, cost_weights: Sequence[float]
) -> dict[str, tuple[list[ReplayedTraffic], Sequence[float]]]:
    train, test = pool.train, pool.test
    oracles = [measure(test, oracle_choice(test, weight)) for weight in cost_weights]
    found: dict[str, tuple[list[ReplayedTraffic], Sequence[float]]] = {
        "oracle": (oracles, cost_weights)
    }
    if any(task is not None for task in train.tasks):
        means = task_means(train)
        routed = [task_choice(means, test, alone.best, weight) for weight in cost_weights]
        found["task_oracle"] = [measure(test, choice) for choice in routed], cost_weights
    if alone.pair is not None:
        sent = [length_choice(train, test, alone.pair, share) for share in STRONG_SHARES]
        found["prompt_length"] = [measure(test, choice) for choice in sent], STRONG_SHARES
    return found
