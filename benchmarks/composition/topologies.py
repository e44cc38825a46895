"""Part d: a router over single experts and compositions against the best fixed one of them all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.composition.data import Spread, with_interval
from eval.batches import make_batch
from eval.compositions.offered import offered
from eval.compositions.virtual import with_compositions
from eval.compositions.world import World
from eval.intervals import ClusterBootstrap
from eval.prices import fit_prices
from routers.fit import encode_table, fit_router
from routers.recipe import DEFAULT, Recipe
from routers.records import Floats, OutcomeTable

WEIGHTS = (0.03, 0.1, 0.3)
"""Quality points that saving one mean request to the dearest expert is worth."""


@dataclass(frozen=True, slots=True)
class Picked:
    """One price of quality; utilities are quality − weight · cost / the dearest expert's cost."""

    name: str
    rows: str
    count: int
    weight: float
    fixed: str
    fixed_utility: Spread
    single_utility: Spread
    router_utility: Spread
    over_fixed: Spread
    over_singles: Spread
    shares: str


def measured(name: str, what: str, worlds: Sequence[World], seed: int = 0) -> list[Picked]:
    """Every price, on the test side of `worlds`, whose rows are put together.

    Compositions, their thresholds and the best fixed topology are chosen on the training side. A
    router over the single experts alone stands beside it.
    """
    parts = [_of_world(world, seed) for world in worlds]
    groups = [group for world in worlds for group in world.test.table.groups]
    found = []
    for place, weight in enumerate(WEIGHTS):
        values = np.hstack([part[place][0] for part in parts])
        bootstrap = ClusterBootstrap(groups, seed=seed)
        drawn = bootstrap.means(values, np.ones(values.shape))
        mean = values.mean(axis=1)
        counts: Counter[str] = sum((part[place][2] for part in parts), Counter())
        total = sum(counts.values())
        shares = ", ".join(f"{kind} {100 * n / total:.0f} %" for kind, n in counts.most_common())
        single = [with_interval(float(mean[row]), drawn[:, row]) for row in range(3)]
        found.append(
            Picked(
                name, what, len(groups), weight,
                "; ".join(dict.fromkeys(part[place][1] for part in parts)),
                single[0], single[1], single[2],
                with_interval(float(mean[2] - mean[0]), drawn[:, 2] - drawn[:, 0]),
                with_interval(float(mean[2] - mean[1]), drawn[:, 2] - drawn[:, 1]),
                shares,
            )
        )  # fmt: skip
    return found


def _of_world(world: World, seed: int) -> list[tuple[Floats, str, Counter[str]]]:
    compositions = offered(world.train)
    train, test = (with_compositions(s, compositions) for s in (world.train, world.test))
    scale = float(world.train.table.cost_usd_NA.mean(axis=0).max())
    both = _Decider(train, test, seed, scale)
    alone = _Decider(world.train.table, world.test.table, seed, scale)
    found = []
    for weight in WEIGHTS:
        known_A = (train.score_NA - weight * train.cost_usd_NA / scale).mean(axis=0)
        fixed = int(known_A.argmax())
        utility_NA = test.score_NA - weight * test.cost_usd_NA / scale
        picked = both.columns(weight)
        rows = np.arange(len(test))
        values = np.stack([utility_NA[:, fixed], alone.utility(weight), utility_NA[rows, picked]])
        kinds = Counter(_kind(test.experts[column]) for column in picked)
        found.append((values, test.experts[fixed], kinds))
    return found


class _Decider:
    """The shipped router, learned from one table, on another."""

    def __init__(self, train: OutcomeTable, test: OutcomeTable, seed: int, scale: float) -> None:
        encoded = encode_table(Recipe.read(DEFAULT).encoder, train, seed)
        router = fit_router("r", DEFAULT, train, seed=seed, encoded=encoded)
        features = encoded.featurizer.transform(test.prompts)
        estimates = router.estimator.predict(features)
        prices = fit_prices(train)
        self._batch = make_batch(router, features.prompt_tokens_N, estimates, prices)
        self._test, self._scale = test, scale

    def columns(self, weight: float) -> np.ndarray:
        """Whom it chooses."""
        return self._batch.greedy(weight * self._batch.cost_scale_usd / self._scale)

    def utility(self, weight: float) -> Floats:
        """What its choices are worth."""
        rows, columns = np.arange(len(self._test)), self.columns(weight)
        cost_N = self._test.cost_usd_NA[rows, columns]
        worth_N: Floats = self._test.score_NA[rows, columns] - weight * cost_N / self._scale
        return worth_N


def _kind(name: str) -> str:
    kind, bracket, _ = name.partition("(")
    return kind if bracket and kind in {"cascade", "vote", "best_of"} else "single"
