"""Part d: a router over single experts and compositions against the best fixed one of them all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.composition.data import Spread, with_interval
from eval.batches import Batch, make_batch
from eval.compositions.caution import Caution
from eval.compositions.offered import offered
from eval.compositions.virtual import with_compositions
from eval.compositions.world import World, rehearsed
from eval.intervals import ClusterBootstrap
from eval.prices import fit_prices
from routers.fit import encode_table, fit_router
from routers.recipe import DEFAULT, Recipe
from routers.records import Floats, OutcomeTable

WEIGHTS = (0.03, 0.1, 0.3)
"""Quality points that saving one mean request to the dearest expert is worth."""


@dataclass(frozen=True, slots=True)
class Picked:
    """One price of quality; utilities are quality − weight · cost / the dearest expert's cost.

    Attributes:
        fixed_utility: Of the best fixed choice on the training rows.
        single_utility: Of a router over single experts.
        router_utility: Of the router over all, with caution.
        plain_utility: Of the same without.
        over_fixed: The router's gain over the fixed choice.
        over_singles: Over the router of single experts.
    """

    name: str
    rows: str
    count: int
    weight: float
    fixed: str
    fixed_utility: Spread
    single_utility: Spread
    router_utility: Spread
    plain_utility: Spread
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
        single = [with_interval(float(mean[row]), drawn[:, row]) for row in range(4)]
        found.append(
            Picked(
                name, what, len(groups), weight,
                "; ".join(dict.fromkeys(part[place][1] for part in parts)),
                single[0], single[1], single[2], single[3],
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
    rows = np.arange(len(test))
    found = []
    for weight in WEIGHTS:
        known_NA, utility_NA = (_utility(table, weight, scale) for table in (train, test))
        composed_A = np.array([_kind(name) != "single" for name in train.experts])
        caution = Caution.fit(both.expected(both.known, weight), known_NA, composed_A)
        expected_NA = both.expected(both.new, weight)
        picked_N = caution.columns(expected_NA, composed_A)
        single_N = alone.expected(alone.new, weight).argmax(axis=1)
        values = np.stack(
            [
                utility_NA[:, caution.fixed],
                _utility(world.test.table, weight, scale)[rows, single_N],
                utility_NA[rows, picked_N],
                utility_NA[rows, expected_NA.argmax(axis=1)],
            ]
        )
        kinds = Counter(_kind(test.experts[column]) for column in picked_N)
        found.append((values, test.experts[caution.fixed], kinds))
    return found


def _utility(table: OutcomeTable, weight: float, scale: float) -> Floats:
    utility_NA: Floats = table.score_NA - weight * table.cost_usd_NA / scale
    return utility_NA


class _Decider:
    """The shipped router, learned from one table.

    Attributes:
        known: What it expects of that table's rows, by fits that had not seen them.
        new: What it expects of another's.
    """

    def __init__(self, train: OutcomeTable, test: OutcomeTable, seed: int, scale: float) -> None:
        encoded = encode_table(Recipe.read(DEFAULT).encoder, train, seed)
        router = fit_router("r", DEFAULT, train, seed=seed, encoded=encoded)
        prices = fit_prices(train)
        unseen_NA = rehearsed(router, encoded, train, DEFAULT, seed)
        features = encoded.featurizer.transform(test.prompts)
        self.known, self.new = (
            make_batch(router, each.prompt_tokens_N, estimates, prices)
            for each, estimates in (
                (
                    encoded.features,
                    replace(router.estimator.predict(encoded.features), quality_NA=unseen_NA),
                ),
                (features, router.estimator.predict(features)),
            )
        )
        self._scale = scale

    def expected(self, batch: Batch, weight: float) -> Floats:
        """Utility of each choice, shape (N, A)."""
        expected_NA: Floats = batch.quality_NA - weight * batch.cost_NA / self._scale
        return expected_NA


def _kind(name: str) -> str:
    kind, bracket, _ = name.partition("(")
    return kind if bracket and kind in {"cascade", "vote", "best_of"} else "single"
