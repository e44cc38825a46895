"""Part c: do thresholds spend their budget, and keep their risk, on requests they have not seen?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.composition.data import Spread, with_interval
from eval.compositions.world import World
from eval.intervals import ClusterBootstrap
from routers.deferral.threshold import Threshold
from routers.estimators.folds import group_folds, others

PARTS = (0.25, 0.5, 0.75)
RISKS = (0.02, 0.05, 0.1)
_SPLITS = 200


@dataclass(frozen=True, slots=True)
class Spent:
    """A budget, and what was spent over it, as a share of it."""

    name: str
    pair: str
    part: float
    dev: Spread
    crossed: Spread


@dataclass(frozen=True, slots=True)
class Kept:
    """A risk, and the share of requests that were kept by the weak expert and wrong."""

    name: str
    pair: str
    risk: float
    dev: Spread
    splits: float
    deferred: float


def _pair(world: World) -> tuple[int, int]:
    """The best of those that cost less than a tenth of the best expert, and the best."""
    table = world.train.table
    quality_A, cost_A = table.score_NA.mean(axis=0), table.cost_usd_NA.mean(axis=0)
    strong = int(quality_A.argmax())
    cheap_A = np.where(cost_A < 0.1 * cost_A[strong], quality_A, -1.0)
    return int(cheap_A.argmax()), strong


def spent(name: str, world: World, seed: int = 0) -> list[Spent]:
    """Budgets between the two experts' prices, by the signal of the weak one's draft."""
    weak, strong = _pair(world)
    pair = f"{world.experts[weak]} → {world.experts[strong]}"
    known, new = world.train, world.test
    signal_N, score = known.seen.signal_NA[:, weak], known.table.cost_usd_NA
    draft_N, next_N = score[:, weak], score[:, strong]
    found = []
    for part in PARTS:
        budget = float(draft_N.mean() + part * next_N.mean())
        threshold = Threshold.of_budget(signal_N, draft_N, next_N, budget)
        usd = new.table.cost_usd_NA
        dev_N = usd[:, weak] + threshold.deferred(new.seen.signal_NA[:, weak]) * usd[:, strong]
        crossed_N = np.empty(len(signal_N))
        for held in group_folds(known.table.groups, 5, np.random.default_rng(seed)):
            kept = others(held, len(signal_N))
            fitted = Threshold.of_budget(signal_N[kept], draft_N[kept], next_N[kept], budget)
            crossed_N[held] = draft_N[held] + fitted.deferred(signal_N[held]) * next_N[held]
        found.append(
            Spent(
                name, pair, part,
                _mean(dev_N / budget - 1, new.table.groups, seed),
                _mean(crossed_N / budget - 1, known.table.groups, seed),
            )
        )  # fmt: skip
    return found


def kept(name: str, world: World, seed: int = 0) -> list[Kept]:
    """Risks, fitted on the training side; and over 200 random halves of it."""
    weak, strong = _pair(world)
    pair = f"{world.experts[weak]} → {world.experts[strong]}"
    known, new = world.train, world.test
    signal_N, lost_N = known.seen.signal_NA[:, weak], 1 - known.table.score_NA[:, weak]
    new_signal_N, new_lost_N = new.seen.signal_NA[:, weak], 1 - new.table.score_NA[:, weak]
    rng = np.random.default_rng(seed)
    found = []
    for risk in RISKS:
        threshold = Threshold.of_risk(signal_N, lost_N, risk)
        accepted_N = 1 - threshold.deferred(new_signal_N)
        halves = []
        for _ in range(_SPLITS):
            fit, held = group_folds(known.table.groups, 2, rng)
            halved = Threshold.of_risk(signal_N[fit], lost_N[fit], risk)
            halves.append(float(((1 - halved.deferred(signal_N[held])) * lost_N[held]).mean()))
        found.append(
            Kept(
                name, pair, risk,
                _mean(accepted_N * new_lost_N, new.table.groups, seed),
                float(np.mean(halves)), float(1 - accepted_N.mean()),
            )
        )  # fmt: skip
    return found


def _mean(values_N: np.ndarray, groups: tuple[str, ...], seed: int) -> Spread:
    rows = np.asarray(values_N)[None]
    drawn = ClusterBootstrap(groups, seed=seed).means(rows, np.ones(rows.shape))
    return with_interval(float(rows.mean()), drawn[:, 0])
