"""Trains every router on one table and judges it on another, beside the baselines.

Nothing that a router or a baseline is set to (experts, thresholds, cost weights, which router to
recommend) is chosen by looking at the test side. Only the best of a sweep and the oracle are read
off it, and the report says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from eval.baselines import Singles, lengths, singles
from eval.calibration import calibration
from eval.comparison import Baseline, Comparison, MeasuredPoint, Point, RouterResult
from eval.crew import train_all
from eval.curves import upper_hull
from eval.errors import ComparisonError
from eval.field import BASELINE, ROUTER, Field, make_field
from eval.figures import Measured, measure_all
from eval.intervals import ClusterBootstrap, Interval, percentile_interval
from eval.pgr import apgr_replicates, pgr_curve
from eval.pool import Pool, make_pool
from eval.replay import COST_WEIGHTS, always
from eval.training import Bench, Failed, Sides, Stopwatch, Trained, encode_sides
from eval.verdicts import Rival, headline, judge, recommend
from experts.cards import Prices
from routers.errors import RoutingError
from routers.fit import by_query_id
from routers.recipe import Recipe
from routers.records import Floats, OutcomeTable

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
    measured: Sequence[MeasuredPoint] = (),
    replicates: int = 1000,
    jobs: int = 1,
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
        measured: Points measured elsewhere to show beside the others.
        replicates: Draws of the bootstrap.
        jobs: How many routers are trained at a time, each in a process of its own; see
            `eval.crew.train_all`.

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
    sides, failures = _encode_all(recipes, pool, seed, tell)
    clock.lap("encode")
    bench = Bench(pool, alone.best, cost_weights, seed, sides)
    trained, more = _train_all(recipes, bench, jobs, tell)
    failures += more
    if not trained:
        raise ComparisonError("; ".join(failures))
    clock.lap("routers")
    tell("bootstrap", _TRAINED)
    field = make_field(pool, alone, trained, cost_weights)
    bootstrap = ClusterBootstrap(pool.test.groups, seed=seed, replicates=replicates)
    found = measure_all(field.traffic, field.layout, bootstrap)
    results = [_router_result(each, pool, alone, field, found, bootstrap) for each in trained]
    recommended = recommend({each.name: each.settings[0] for each in trained})
    best = next(result for result in results if result.name == recommended)
    clock.lap("judge")
    tell("done", 1.0)
    return Comparison(
        data={**(data or {}), **_data(pool, alone, found, bootstrap)},
        seed=seed,
        routers=tuple(results),
        baselines=_baselines(pool, alone, field, found, bootstrap),
        singles={
            expert: _single(field, found, pool, column)
            for column, expert in enumerate(pool.test.experts)
        },
        recommended=recommended,
        headline=headline(best),
        notes=(*notes, *pool.notes, *failures),
        measured=tuple(measured),
        seconds=clock.seconds,
    )


def _known(recipe: str) -> Recipe:
    try:
        return Recipe.read(recipe)
    except RoutingError as error:
        raise ComparisonError(f"there is no router {recipe!r}: {error}") from error


def _encode_all(
    recipes: Mapping[str, Recipe], pool: Pool, seed: int, tell: Progress
) -> tuple[dict[str, Sides], list[str]]:
    sides, failures = {}, []
    encoders = list(dict.fromkeys(recipe.encoder for recipe in recipes.values()))
    for done, encoder in enumerate(encoders):
        tell(f"encoding with {encoder}", _ENCODED * done / len(encoders))
        try:
            sides[encoder] = encode_sides(encoder, pool, seed)
        except RoutingError as error:
            names = [name for name, recipe in recipes.items() if recipe.encoder == encoder]
            failures.append(f"{_left_out(names)}: {error}.")
    return sides, failures


def _train_all(
    recipes: Mapping[str, Recipe], bench: Bench, jobs: int, tell: Progress
) -> tuple[list[Trained], list[str]]:
    encoders = {n: recipe.encoder for n, recipe in recipes.items() if recipe.encoder in bench.sides}
    share = (_TRAINED - _ENCODED) / max(len(encoders), 1)
    found = train_all(
        encoders, bench, jobs, lambda name, done: tell(f"router {name}", _ENCODED + share * done)
    )
    trained = [each for each in found if isinstance(each, Trained)]
    failed = [each for each in found if isinstance(each, Failed)]
    return trained, [f"{_left_out([each.name])}: {each.reason}." for each in failed]


def _left_out(names: Sequence[str]) -> str:
    plural = "s" if len(names) > 1 else ""
    return f"Router{plural} {', '.join(names)} could not be trained"


def _router_result(
    trained: Trained,
    pool: Pool,
    alone: Singles,
    field: Field,
    found: Measured,
    bootstrap: ClusterBootstrap,
) -> RouterResult:
    key = ROUTER + trained.name
    estimates, traffic = trained.sweep.estimates, trained.sweep.traffic
    pgr, pgr_ci = _pgr(_advantage(estimates.quality_NA, alone), pool.test, alone, bootstrap)
    rival = Rival(pool.test.experts[alone.best], field.traffic[field.layout.best])
    verdict = judge(trained.name, pool.test, traffic, trained.settings, rival, bootstrap)
    chosen_NA = always(pool.test, traffic[verdict.offer.point].likeliest_N) > 0
    return RouterResult(
        name=trained.name,
        fit_s=trained.fit_s,
        decide_us_p50=trained.decide_us_p50,
        points=_points(field, found, pool, field.layout.curves[key]),
        figures={**found.figures[key], **pgr},
        ci95={**found.figures_ci.get(key, {}), **pgr_ci},
        calibration=calibration(estimates.quality_NA, pool.test.score_NA),
        calibration_chosen=calibration(
            np.where(chosen_NA, estimates.quality_NA, np.nan), pool.test.score_NA
        ),
        verdict=verdict,
        seconds=trained.seconds,
    )


def _advantage(quality_NA: Floats, alone: Singles) -> Floats:
    if alone.pair is None:
        return np.full(len(quality_NA), np.nan)
    return quality_NA[:, alone.pair[1]] - quality_NA[:, alone.pair[0]]


def _pgr(
    advantage_N: Floats, test: OutcomeTable, alone: Singles, bootstrap: ClusterBootstrap
) -> tuple[dict[str, float], dict[str, Interval]]:
    unknown = dict.fromkeys(("apgr", "cpt50", "cpt80"), float("nan"))
    if alone.pair is None:
        return unknown, {}
    weak_N, strong_N = (test.score_NA[:, column] for column in alone.pair)
    curve = pgr_curve(advantage_N, weak_N, strong_N)
    if curve is None:
        return unknown, {}
    drawn = apgr_replicates(advantage_N, weak_N, strong_N, bootstrap.weights())
    interval = percentile_interval(drawn)
    figures = {"apgr": curve.apgr, "cpt50": curve.cpt(0.5), "cpt80": curve.cpt(0.8)}
    return figures, {"apgr": interval} if interval else {}


def _baselines(
    pool: Pool, alone: Singles, field: Field, found: Measured, bootstrap: ClusterBootstrap
) -> dict[str, Baseline]:
    baselines = {"best_single": _single(field, found, pool, alone.best)}
    if pool.costs_known and alone.cheapest is not None:
        baselines["cheapest"] = _single(field, found, pool, alone.cheapest)
    at = field.layout.random
    baselines["random"] = Baseline(_points(field, found, pool, slice(at, at + 1)))
    for key, part in field.layout.curves.items():
        if key.startswith(BASELINE):
            baselines[key.removeprefix(BASELINE)] = _curve(key, part, pool, field, found)
    if "prompt_length" in baselines:
        length = baselines["prompt_length"]
        pgr, pgr_ci = _pgr(lengths(pool.test), pool.test, alone, bootstrap)
        figures, ci95 = {**length.figures, **pgr}, {**length.ci95, **pgr_ci}
        baselines["prompt_length"] = Baseline(length.points, None, figures, ci95)
    return baselines


def _curve(key: str, part: slice, pool: Pool, field: Field, found: Measured) -> Baseline:
    points = _points(field, found, pool, part)
    if key == f"{BASELINE}zero_router":
        points = _on_hull(points)
    return Baseline(points, None, found.figures[key], found.figures_ci.get(key, {}))


def _on_hull(points: tuple[Point, ...]) -> tuple[Point, ...]:
    cost_P = np.array([point.cost_usd for point in points])
    quality_P = np.array([point.quality for point in points])
    if np.isnan(cost_P + quality_P).all():
        return (points[int(np.nanargmax(quality_P))],)
    hull = upper_hull(cost_P, quality_P)
    on = zip(hull.cost_V, hull.quality_V, strict=True)
    pairs = list(zip(cost_P, quality_P, strict=True))
    return tuple(points[pairs.index(vertex)] for vertex in on)


def _single(field: Field, found: Measured, pool: Pool, column: int) -> Baseline:
    at = field.experts[column]
    return Baseline(_points(field, found, pool, slice(at, at + 1)), pool.test.experts[column])


def _points(field: Field, found: Measured, pool: Pool, part: slice) -> tuple[Point, ...]:
    return tuple(_point(field, found, pool, at) for at in range(part.start, part.stop))


def _point(field: Field, found: Measured, pool: Pool, at: int) -> Point:
    traffic = field.traffic[at]
    known = {"quality": found.quality_ci[at], "cost_usd": found.cost_ci[at]}
    shares = zip(pool.test.experts, traffic.share_A, strict=True)
    return Point(
        setting=field.settings[at],
        quality=traffic.quality,
        cost_usd=traffic.cost_usd,
        share={expert: float(share) for expert, share in shares if share > 0},
        latency_s=traffic.latency_s,
        unobserved=traffic.unobserved,
        ci95={name: interval for name, interval in known.items() if interval is not None},
    )


def _data(
    pool: Pool, alone: Singles, found: Measured, bootstrap: ClusterBootstrap
) -> dict[str, Any]:
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
        "bootstrap_replicates": bootstrap.replicates,
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
