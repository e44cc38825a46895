"""Part c: do thresholds spend their budget, and keep their risk, on requests they have not seen?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from eval.compositions.world import CompositionWorld, Side
from eval.metrics.intervals import ClusterBootstrap, Spread, with_interval
from routers.deferral.threshold import DeferralThreshold
from routers.estimators.folds import Rows, group_folds, others
from routers.records import Floats

PARTS = (0.25, 0.5, 0.75)
RISKS = (0.02, 0.05, 0.1)
_SPLITS = 200
_WITHIN = 0.02
_MANY = 200_000
_DRAWS = 30


@dataclass(frozen=True, slots=True)
class Spent:
    """A budget, and what was spent over it, as a share of it.

    Attributes:
        dev: On `dev`, fitted on `train`.
        chance: Standard error of that: how far rows of these numbers stray, by halves of `train`.
        crossed: On `train`, each fold by the others.
        halves: Mean over 200 random halves of `train`, fitted on the one, spent on the other.
        needed: How many rows on each side keep 95 of 100 within 2 %, by that standard error.
        many: Of 30 draws of 200,000 rows for each side out of `train`, the share within 2 %.
    """

    name: str
    pair: str
    part: float
    dev: Spread
    chance: float
    crossed: Spread
    halves: float
    needed: int
    many: float


@dataclass(frozen=True, slots=True)
class Kept:
    """A risk, and the share of requests that were kept by the weak expert and wrong."""

    name: str
    pair: str
    risk: float
    dev: Spread
    splits: float
    deferred: float


def _pair(world: CompositionWorld) -> tuple[int, int]:
    """The best of those that cost less than a tenth of the best expert, and the best."""
    table = world.train.table
    quality_A, cost_A = table.score_NA.mean(axis=0), table.cost_usd_NA.mean(axis=0)
    strong = int(quality_A.argmax())
    cheap_A = np.where(cost_A < 0.1 * cost_A[strong], quality_A, -1.0)
    return int(cheap_A.argmax()), strong


@dataclass(frozen=True, slots=True, eq=False)
class _Drafts:
    """The weak expert's signals, what its drafts cost, and what deferring them adds."""

    signal_N: Floats
    draft_N: Floats
    next_N: Floats

    @classmethod
    def of(cls, side: Side, weak: int, strong: int) -> _Drafts:
        usd_NA = side.table.cost_usd_NA
        return cls(side.seen.signal_NA[:, weak], usd_NA[:, weak], usd_NA[:, strong])

    def take(self, rows: Rows) -> _Drafts:
        return _Drafts(self.signal_N[rows], self.draft_N[rows], self.next_N[rows])

    def over(self, fitted_on: _Drafts, budget: float) -> Floats:
        """What each request costs over a budget that a threshold was fitted to on others."""
        known = fitted_on.signal_N, fitted_on.draft_N, fitted_on.next_N
        deferred_N = DeferralThreshold.of_budget(*known, budget).deferred(self.signal_N)
        return (self.draft_N + deferred_N * self.next_N) / budget - 1


def spent(name: str, world: CompositionWorld, seed: int = 0) -> list[Spent]:
    """Budgets between the two experts' prices, by the signal of the weak one's draft."""
    weak, strong = _pair(world)
    pair = f"{world.experts[weak]} → {world.experts[strong]}"
    known, new = (_Drafts.of(side, weak, strong) for side in (world.train, world.test))
    groups = world.train.table.groups
    rng = np.random.default_rng(seed)
    found = []
    for part in PARTS:
        budget = float(known.draft_N.mean() + part * known.next_N.mean())
        crossed_N = np.empty(len(groups))
        for held in group_folds(groups, 5, np.random.default_rng(seed)):
            kept_rows = others(held, len(groups))
            crossed_N[held] = known.take(held).over(known.take(kept_rows), budget)
        halves = np.array([_halved(known, groups, budget, rng) for _ in range(_SPLITS)])
        # A half strays by √(2/n + 2/n) of what one request does, and `dev` by √(1/n + 1/m).
        one = float(halves.std()) * np.sqrt(len(groups) / 4)
        chance = one * np.sqrt(1 / len(groups) + 1 / len(new.signal_N))
        many = [abs(_drawn(known, budget, rng)) <= _WITHIN for _ in range(_DRAWS)]
        found.append(
            Spent(
                name, pair, part,
                _mean(new.over(known, budget), world.test.table.groups, seed), float(chance),
                _mean(crossed_N, groups, seed), float(halves.mean()),
                int(np.ceil(2 * (1.96 * one / _WITHIN) ** 2)), float(np.mean(many)),
            )
        )  # fmt: skip
    return found


@dataclass(frozen=True, slots=True)
class Refitted:
    """A budget by what a router expects before the draft, on rows that it did not learn from.

    Attributes:
        over: What was spent over it, as a share, the mean over `worlds`.
        stderr: Standard error of that.
        deferred: Share deferred there less the share where the threshold was fitted.
        spread: How much wider the signal is spread than where the threshold was fitted, as a share.
    """

    name: str
    part: float
    over: float
    stderr: float
    deferred: float
    spread: float


def refitted(name: str, worlds: Iterable[CompositionWorld]) -> list[Refitted]:
    """Budgets as `spent` has them, with a router of each world's own in place of one for all."""
    found: dict[float, list[tuple[float, float, float]]] = {part: [] for part in PARTS}
    for world in worlds:
        weak, strong = _pair(world)
        known, new = (_Drafts.of(side, weak, strong) for side in (world.train, world.test))
        spread = float(new.signal_N.std() / known.signal_N.std() - 1)
        for part, told in found.items():
            budget = float(known.draft_N.mean() + part * known.next_N.mean())
            threshold = DeferralThreshold.of_budget(
                known.signal_N, known.draft_N, known.next_N, budget
            )
            more = (
                threshold.deferred(new.signal_N).mean() - threshold.deferred(known.signal_N).mean()
            )
            told.append((float(new.over(known, budget).mean()), float(more), spread))
    rows = {part: np.array(told) for part, told in found.items()}
    return [
        Refitted(name, part, *(float(x) for x in (
            told[:, 0].mean(), told[:, 0].std(ddof=1) / np.sqrt(len(told)),
            told[:, 1].mean(), told[:, 2].mean(),
        )))
        for part, told in rows.items()
    ]  # fmt: skip


def _halved(known: _Drafts, groups: Sequence[str], budget: float, rng: Generator) -> float:
    fit, held = group_folds(groups, 2, rng)
    return float(known.take(held).over(known.take(fit), budget).mean())


def _drawn(known: _Drafts, budget: float, rng: Generator) -> float:
    """Fitted to many requests like these, and spent on as many others."""
    fit, held = (rng.integers(len(known.signal_N), size=_MANY) for _ in range(2))
    return float(known.take(held).over(known.take(fit), budget).mean())


def kept(name: str, world: CompositionWorld, seed: int = 0) -> list[Kept]:
    """Risks, fitted on the training side; and over 200 random halves of it."""
    weak, strong = _pair(world)
    pair = f"{world.experts[weak]} → {world.experts[strong]}"
    known, new = world.train, world.test
    signal_N, lost_N = known.seen.signal_NA[:, weak], 1 - known.table.score_NA[:, weak]
    new_signal_N, new_lost_N = new.seen.signal_NA[:, weak], 1 - new.table.score_NA[:, weak]
    rng = np.random.default_rng(seed)
    found = []
    for risk in RISKS:
        threshold = DeferralThreshold.of_risk(signal_N, lost_N, risk)
        accepted_N = 1 - threshold.deferred(new_signal_N)
        halves = []
        for _ in range(_SPLITS):
            fit, held = group_folds(known.table.groups, 2, rng)
            halved = DeferralThreshold.of_risk(signal_N[fit], lost_N[fit], risk)
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
