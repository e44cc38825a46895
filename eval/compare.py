"""Trains every router on one table and judges it on another, beside the baselines.

Nothing that a router or a baseline is set to (experts, thresholds, cost weights, which router to
recommend) is chosen by looking at the test side. Only the best of a sweep and the oracle are read
off it, and the report says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eval.comparison import Comparison, RouterResult
from eval.crew import Crew, LocalCrew
from eval.errors import ComparisonError
from eval.metrics.figures import measure_all
from eval.metrics.intervals import ClusterBootstrap
from eval.metrics.robustness import change
from eval.replay.baselines import singles
from eval.replay.field import make_field
from eval.replay.kept_fits import KeptFits
from eval.replay.replay import COST_WEIGHTS
from eval.replay.training import (
    Bench,
    Failed,
    Sides,
    Stopwatch,
    TrainedRouter,
    encode_sides,
    train_router,
)
from eval.results import Measurements, baselines, paired, router_results, single_result
from eval.tables.pool import TrainTestPool, make_pool
from eval.verdicts import headline, recommend
from experts.cards import Prices
from routers.encoders.vector_store import VectorStore
from routers.errors import RoutingError
from routers.fitting.fit import by_query_id
from routers.fitting.recipe import Recipe
from routers.records import OutcomeTable

Progress = Callable[[str, float], None]

_ENCODED, _TRAINED = 0.1, 0.9


def compare(
    train: OutcomeTable,
    test: OutcomeTable,
    estimators: Sequence[str],
    *,
    prices: Mapping[str, Prices | None] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    data: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
    replicates: int = 1000,
    crew: Crew | None = None,
    fits: Path | None = None,
    against: Sequence[tuple[str, str]] = (),
    store: VectorStore | None = None,
) -> Comparison:
    """Train a router per estimator and compare them with single experts, chance and the oracle.

    Args:
        train: What routers learn from.
        test: What all are judged by; it must share no question with `train`.
        estimators: Names that `routers.registry` knows, `knn` or `knn+static`.
        prices: Expert to its prices, for the policies and for costs that were not recorded. What
            is absent is recovered from the recorded costs of `train`.
        seed: Source of all randomness.
        progress: Called with what is being done and how much is done, in [0, 1].
        data: What to say of where the tables come from, JSON-able; see `TrainTest.data`.
        notes: What a reader must know of the tables; see `TrainTest.notes`.
        replicates: Draws of the bootstrap.
        crew: Who trains the routers, one at a time in this process by default.
        fits: Folder that keeps finished fits, so that a comparison that was stopped goes on where
            it was; see `KeptFits`.
        against: Pairs of routers to test against each other; by default the recommended one
            against every other.
        store: Where the vectors of slow encoders are kept.

    Raises:
        ComparisonError: Fewer than two experts in common, nothing observed, or no router could be
            trained.
    """
    tell = progress or (lambda what, done: None)
    if not estimators or not len(train) or not len(test):
        raise ComparisonError("a comparison needs a router, queries to learn from, and a test")
    recipes = {name: _known(name) for name in estimators}
    clock = Stopwatch()
    pool = make_pool(by_query_id(train), test, prices)
    alone = singles(pool.train)
    cost_weights = COST_WEIGHTS if pool.costs_known else (0.0,)
    sides, failures = _encode_all(recipes, pool, seed, tell, store)
    clock.lap("encode")
    bench = Bench(pool, alone.best, alone.cost_A, cost_weights, seed, sides)
    names = [name for name, recipe in recipes.items() if recipe.encoder in sides]
    trained, told = _train_all(names, bench, crew or LocalCrew(), tell, fits)
    if not trained:
        raise ComparisonError("; ".join((*failures, *told)))
    clock.lap("routers")
    tell("bootstrap", _TRAINED)
    field = make_field(pool, alone, trained, cost_weights)
    bootstrap = ClusterBootstrap(pool.test.groups, seed=seed, replicates=replicates)
    found = measure_all(field.traffic, field.layout, bootstrap)
    judged = Measurements(pool, alone, field, found, bootstrap)
    results = router_results(trained, judged)
    recommended = recommend({each.name: each.settings[0] for each in trained})
    best = next(result for result in results if result.name == recommended)
    others = [(recommended, result.name) for result in results if result.name != recommended]
    pairs = paired(results, _present(against, results) or others, judged, seed)
    clock.lap("judge")
    tell("done", 1.0)
    return Comparison(
        data={**(data or {}), **_data(judged)},
        seed=seed,
        routers=tuple(results),
        baselines=baselines(judged),
        singles={
            expert: single_result(judged, column) for column, expert in enumerate(pool.test.experts)
        },
        recommended=recommended,
        headline=headline(best),
        notes=(*notes, *pool.notes, *failures, *told),
        seconds=clock.seconds,
        pairs=pairs,
    )


def _present(
    against: Sequence[tuple[str, str]], results: Sequence[RouterResult]
) -> Sequence[tuple[str, str]]:
    names = [result.name for result in results]
    for name in {name for pair in against for name in pair}:
        if name not in names:
            raise ComparisonError(
                f"router {name!r} can't be compared: it is not among {', '.join(names)}"
            )
    return against


def _known(recipe: str) -> Recipe:
    try:
        return Recipe.read(recipe)
    except RoutingError as error:
        raise ComparisonError(f"there is no router {recipe!r}: {error}") from error


def _encode_all(
    recipes: Mapping[str, Recipe],
    pool: TrainTestPool,
    seed: int,
    tell: Progress,
    store: VectorStore | None,
) -> tuple[dict[str, Sides], list[str]]:
    sides, failures = {}, []
    changed = change(pool.test.prompts, pool.train.prompts, seed)
    encoders = list(dict.fromkeys(recipe.encoder for recipe in recipes.values()))
    for done, encoder in enumerate(encoders):
        tell(f"encoding with {encoder}", _ENCODED * done / len(encoders))
        try:
            sides[encoder] = encode_sides(encoder, pool, changed, seed, store)
        except RoutingError as error:
            names = [name for name, recipe in recipes.items() if recipe.encoder == encoder]
            failures.append(f"{_left_out(names)}: {error}.")
    return sides, failures


def _train_all(
    names: Sequence[str], bench: Bench, crew: Crew, tell: Progress, fits: Path | None
) -> tuple[list[TrainedRouter], list[str]]:
    """The routers in the order of `names`, and what a reader must know of how they came about."""
    kept = KeptFits(fits, bench) if fits else None
    notes = []
    found: dict[str, TrainedRouter | Failed] = {}
    if kept:
        found.update({name: known for name in names if (known := kept.read(name))})
    if found:
        notes.append(
            f"{len(found)} of {len(names)} routers were trained by a run that was stopped."
        )
        tell(notes[0], _ENCODED)
    todo = [name for name in names if name not in found]
    for _, trained in crew.each(train_router, bench, todo):
        found[trained.name] = trained
        if kept and isinstance(trained, TrainedRouter):
            kept.write(trained)
        part = len(found) / len(names)
        tell(f"router {trained.name}", _ENCODED + part * (_TRAINED - _ENCODED))
    each = [found[name] for name in names]
    notes += [f"{_left_out([bad.name])}: {bad.reason}." for bad in each if isinstance(bad, Failed)]
    return [good for good in each if isinstance(good, TrainedRouter)], notes


def _left_out(names: Sequence[str]) -> str:
    plural = "s" if len(names) > 1 else ""
    return f"Router{plural} {', '.join(names)} could not be trained"


def _data(judged: Measurements) -> dict[str, Any]:
    pool, alone, found = judged.pool, judged.alone, judged.found
    test = pool.test
    return {
        "n_train": len(pool.train),
        "n_test": len(test),
        "n_test_groups": len(set(test.groups)),
        "experts": list(test.experts),
        "left_out": dict(pool.left_out),
        "tasks": sorted({task for task in test.tasks if task is not None}),
        "observed_share_train": float((~np.isnan(pool.train.score_NA)).mean()),
        "observed_share_test": float((~np.isnan(test.score_NA)).mean()),
        "costs_known": pool.costs_known,
        "c_min": found.frame.c_min,
        "c_max": found.frame.c_max,
        "prices": {expert: _price(price) for expert, price in pool.prices.items()},
        "weak": None if alone.pair is None else test.experts[alone.pair[0]],
        "strong": None if alone.pair is None else test.experts[alone.pair[1]],
        "bootstrap_replicates": judged.bootstrap.replicates,
    }


def _price(price: Prices | None) -> dict[str, Any] | None:
    if price is None:
        return None
    return {
        "usd_per_1m_input": price.input,
        "usd_per_1m_output": price.output,
        "usd_per_request": price.request,
        "source": price.source,
    }
