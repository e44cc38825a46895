"""A router over single experts and compositions against the best fixed one of them all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from eval.comparison import AtPrice
from eval.compositions.offered import offered
from eval.compositions.virtual import Composition, with_compositions
from eval.compositions.world import CompositionWorld, rehearsed
from eval.metrics.intervals import ClusterBootstrap, with_interval
from eval.replay.batches import Batch, make_batch
from eval.tables.prices import fit_prices
from eval.tables.splits import TrainTest
from routers.fitting.fit import encode_table, fit_router
from routers.fitting.recipe import DEFAULT, Recipe
from routers.policies.cautious import Caution
from routers.records import Floats, OutcomeTable

WEIGHTS = (0.03, 0.1, 0.3)
"""Quality points that saving one mean request to the dearest expert is worth."""
_KINDS = ("cascade", "vote", "best_of")


@dataclass(frozen=True, slots=True, eq=False)
class ComposedPool:
    """One pool with the compositions that are worth offering, as tables of both sides.

    Attributes:
        world: The single experts.
        compositions: Chosen on the training side.
        train: That side's outcomes, one column for each expert and each composition.
        test: The other side's.
    """

    world: CompositionWorld
    compositions: tuple[Composition, ...]
    train: OutcomeTable
    test: OutcomeTable

    @classmethod
    def of(cls, world: CompositionWorld) -> Self:
        """What `offered` finds worth it."""
        compositions = offered(world.train)
        train, test = (with_compositions(s, compositions) for s in (world.train, world.test))
        return cls(world, tuple(compositions), train, test)

    def as_tables(self, read: TrainTest) -> TrainTest:
        """What it adds to tables that were read, with what a reader must know of it."""
        names = [each.name for each in self.compositions]
        queries = f"{len(self.train):,} + {len(self.test):,} of {len(read.train):,} + "
        notes = (
            f"Compositions are worked out from single experts' answers to the {queries}"
            f"{len(read.test):,} queries that all of them answered at a known cost. Those that no "
            f"expert and no other composition beats in both quality and cost on the training side "
            f"take part: {', '.join(names) or 'none'}.",
            "Whatever is said here of single experts holds for a composition that is always asked.",
        )
        data = {**read.data, "compositions": names}
        return TrainTest(self.train, self.test, data, (*read.notes, *notes))


def at_prices(
    offers: Sequence[ComposedPool], *, estimator: str = DEFAULT, seed: int = 0
) -> list[AtPrice]:
    """Every price, on the test side of `offers`, whose rows are put together.

    Compositions, their thresholds, the best fixed topology and the caution are chosen on the
    training side. A router over the single experts alone stands beside it.

    Args:
        offers: One, or one per fold.
        estimator: The router's, as `Recipe.read` understands it.
        seed: Source of all randomness.
    """
    parts = [_of_offer(offer, estimator, seed) for offer in offers]
    bootstrap = ClusterBootstrap(
        [group for offer in offers for group in offer.test.groups], seed=seed
    )
    found = []
    for place, weight in enumerate(WEIGHTS):
        values = np.hstack([part[place].utility_WN for part in parts])
        drawn = bootstrap.means(values, np.ones(values.shape))
        mean = values.mean(axis=1)
        kinds: Counter[str] = sum((part[place].kinds for part in parts), Counter())
        fixed, single, router, plain = (
            with_interval(float(mean[row]), drawn[:, row]) for row in range(4)
        )
        over_fixed, over_singles = (
            with_interval(float(mean[2] - mean[row]), drawn[:, 2] - drawn[:, row]) for row in (0, 1)
        )
        found.append(
            AtPrice(
                weight,
                "; ".join(dict.fromkeys(part[place].fixed for part in parts)),
                fixed, single, router, plain, over_fixed, over_singles,
                {kind: count / kinds.total() for kind, count in kinds.most_common()},
            )
        )  # fmt: skip
    return found


@dataclass(frozen=True, slots=True, eq=False)
class _Ways:
    """What the four ways come to at one price.

    Attributes:
        utility_WN: Of the fixed choice, the router of singles, the router of all, and the same
            without caution, shape (4, N).
        fixed: The fixed choice.
        kinds: What the router picked.
    """

    utility_WN: Floats
    fixed: str
    kinds: Counter[str]


def _of_offer(offer: ComposedPool, estimator: str, seed: int) -> list[_Ways]:
    world, test = offer.world, offer.test
    scale = float(world.train.table.cost_usd_NA.mean(axis=0).max())
    both = _Decider(offer.train, test, estimator, seed, scale)
    alone = _Decider(world.train.table, world.test.table, estimator, seed, scale)
    composed_A = np.array([kind_of(name) != "single" for name in test.experts])
    rows = np.arange(len(test))
    found = []
    for weight in WEIGHTS:
        known_NA, utility_NA = (_utility(table, weight, scale) for table in (offer.train, test))
        caution = Caution.fit(
            both.expected(both.known, weight), known_NA, composed_A, groups=offer.train.groups
        )
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
        kinds = Counter(kind_of(test.experts[column]) for column in picked_N)
        found.append(_Ways(values, test.experts[caution.fixed], kinds))
    return found


def _utility(table: OutcomeTable, weight: float, scale: float) -> Floats:
    utility_NA: Floats = table.score_NA - weight * table.cost_usd_NA / scale
    return utility_NA


class _Decider:
    """A router, learned from one table.

    Attributes:
        known: What it expects of that table's rows, by fits that had not seen them.
        new: What it expects of another's.
    """

    def __init__(
        self, train: OutcomeTable, test: OutcomeTable, estimator: str, seed: int, scale: float
    ) -> None:
        encoded = encode_table(Recipe.read(estimator).encoder, train, seed)
        router = fit_router("r", estimator, train, seed=seed, encoded=encoded)
        prices = fit_prices(train)
        unseen_NA, _ = rehearsed(router, encoded, train, estimator, seed)
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


def kind_of(name: str) -> str:
    """What kind of composition a column is by its name; `single` for an expert."""
    kind, bracket, _ = name.partition("(")
    return kind if bracket and kind in _KINDS else "single"
