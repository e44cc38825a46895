"""Puts together what was found of every router, baseline and single expert."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from eval.comparison import Baseline, Point, RouterResult
from eval.metrics.calibration import Calibration, calibration, calibration_intervals
from eval.metrics.curves import upper_hull
from eval.metrics.differences import compared, is_logged
from eval.metrics.figures import Levels, MeasuredField
from eval.metrics.intervals import ClusterBootstrap, Interval, percentile_interval
from eval.metrics.pairs import Pair, PairTest, with_holm
from eval.metrics.pareto import pareto_distances
from eval.metrics.pgr import apgr_replicates, pgr_curve
from eval.metrics.scorecard import Scores, Stand, score_all
from eval.replay.baselines import Singles, lengths
from eval.replay.field import BASELINE, ROUTER, Field
from eval.replay.oracles import recall_table
from eval.replay.replay import ReplayedTraffic, always
from eval.replay.training import TrainedRouter
from eval.tables.pool import TrainTestPool
from eval.verdicts import Rival, judge
from routers.records import Floats, OutcomeTable

_PARETO_REPLICATES = 200


@dataclass(frozen=True, slots=True, eq=False)
class Measurements:
    """All that was measured, from which every result follows.

    Attributes:
        pool: Both tables.
        alone: Every expert alone, as the training side knows it.
        field: Every way of choosing, replayed.
        found: What they reached.
        bootstrap: Over the groups of the test side.
    """

    pool: TrainTestPool
    alone: Singles
    field: Field
    found: MeasuredField
    bootstrap: ClusterBootstrap


def router_results(trained: Sequence[TrainedRouter], judged: Measurements) -> list[RouterResult]:
    """Judge every router at the settings that training chose."""
    layout = judged.field.layout
    stands = {}
    for each in trained:
        part = layout.curves[ROUTER + each.name]
        at = part.start + each.settings[0].index
        stands[each.name] = Stand(at, part.start, judged.field.traffic[at].likeliest_N)
    found = judged.found
    scores = score_all(
        stands, judged.pool.test, layout, found.levels, found.drawn, judged.bootstrap
    )
    distances = _pareto(trained, judged)
    return [_router_result(each, judged, scores, distances) for each in trained]


def _router_result(
    trained: TrainedRouter,
    judged: Measurements,
    scores: Scores,
    distances: Mapping[str, _Distances],
) -> RouterResult:
    name, test, alone, found = trained.name, judged.pool.test, judged.alone, judged.found
    key, estimates = ROUTER + name, trained.sweep.estimates
    pgr, pgr_ci = _pgr(_advantage(estimates.quality_NA, alone), judged)
    rival = Rival(test.experts[alone.best], judged.field.traffic[judged.field.layout.best])
    traffic = trained.sweep.traffic
    verdict = judge(name, test, traffic, trained.settings, rival, judged.bootstrap)
    columns_N = traffic[verdict.offer.point].likeliest_N
    chosen_NA = np.where(always(test, columns_N) > 0, estimates.quality_NA, np.nan)
    distance = distances[name]
    return RouterResult(
        name=name,
        fit_s=trained.fit_s,
        decide_us_p50=trained.decide_us_p50,
        points=_points(judged, judged.field.layout.curves[key]),
        figures={**found.figures[key], **pgr, **scores.figures[name], **distance.figures},
        ci95={
            **found.figures_ci.get(key, {}),
            **pgr_ci,
            **scores.ci95[name],
            **distance.ci95,
            **calibration_intervals(estimates.quality_NA, test.score_NA, judged.bootstrap),
            **{
                f"{figure}_chosen": interval
                for figure, interval in calibration_intervals(
                    chosen_NA, test.score_NA, judged.bootstrap
                ).items()
            },
        },
        calibration=calibration(estimates.quality_NA, test.score_NA),
        calibration_chosen=calibration(chosen_NA, test.score_NA),
        verdict=verdict,
        seconds=trained.seconds,
        expert_calibration=_per_expert(estimates.quality_NA, test),
        recall=recall_table(test, columns_N),
        robustness=trained.robustness,
        policies={
            name: _policy_point(traffic, judged) for name, traffic in trained.policies.items()
        },
    )


def _policy_point(traffic: ReplayedTraffic, judged: Measurements) -> Point:
    values_2N = np.stack([traffic.quality_N, traffic.cost_N])
    weights_2N = np.stack([traffic.quality_weight_N, traffic.cost_weight_N])
    drawn_B2 = judged.bootstrap.means(values_2N, weights_2N)
    intervals = {
        "quality": percentile_interval(drawn_B2[:, 0]),
        "cost_usd": percentile_interval(drawn_B2[:, 1]),
    }
    shares = zip(judged.pool.test.experts, traffic.share_A, strict=True)
    return Point(
        setting=None,
        quality=traffic.quality,
        cost_usd=traffic.cost_usd,
        share={expert: float(share) for expert, share in shares if share > 0},
        latency_s=traffic.latency_s,
        unobserved=traffic.unobserved,
        ci95={name: interval for name, interval in intervals.items() if interval is not None},
    )


def _per_expert(quality_NA: Floats, test: OutcomeTable) -> dict[str, Calibration]:
    found = {
        expert: calibration(quality_NA[:, column], test.score_NA[:, column])
        for column, expert in enumerate(test.experts)
    }
    return {expert: each for expert, each in found.items() if each is not None}


@dataclass(frozen=True, slots=True)
class _Distances:
    figures: Mapping[str, float]
    ci95: Mapping[str, Interval]


def _pareto(trained: Sequence[TrainedRouter], judged: Measurements) -> dict[str, _Distances]:
    """Distances from the front, over a part of the replicates, for they take long."""
    layout, found = judged.field.layout, judged.found
    parts = {each.name: layout.curves[ROUTER + each.name] for each in trained}

    def distances(levels: Levels) -> Mapping[str, tuple[float, float]]:
        curves = {name: levels.part(part) for name, part in parts.items()}
        return pareto_distances(curves, [levels.part(layout.singles)])

    whole = distances(found.levels)
    kept = min(_PARETO_REPLICATES, len(found.drawn.quality_K)) if judged.pool.costs_known else 0
    drawn = [
        distances(Levels(found.drawn.quality_K[row], found.drawn.cost_K[row]))
        for row in range(kept)
    ]
    result = {}
    for name in parts:
        figures = dict(zip(("pareto_distance", "pareto_distance_others"), whole[name], strict=True))
        columns = zip(figures, np.array([each[name] for each in drawn]).T, strict=False)
        intervals = {figure: percentile_interval(column_B) for figure, column_B in columns}
        ci95 = {figure: each for figure, each in intervals.items() if each is not None}
        result[name] = _Distances(figures, ci95)
    return result


def paired(
    results: Sequence[RouterResult],
    against: Sequence[tuple[str, str]],
    judged: Measurements,
    seed: int,
) -> tuple[Pair, ...]:
    """Test pairs of routers, each at its own setting.

    Args:
        results: The routers.
        against: Names of the pairs to test.
        judged: What they were measured by.
        seed: Source of the flips.
    """
    test = PairTest(judged.pool.test.groups, judged.bootstrap, seed)
    by_name = {result.name: result for result in results}
    logged = is_logged(judged.pool.test)
    pairs = []
    for first, second in against:
        ours, theirs = (_traffic(by_name[name], judged) for name in (first, second))
        one, other = (judged.found.aiq_B[ROUTER + name] for name in (first, second))
        aiq = by_name[first].figures["aiq"] - by_name[second].figures["aiq"]
        pairs.append(
            Pair(
                first,
                second,
                quality=test.differ(compared(ours, theirs, "quality", logged=logged)),
                cost=test.differ(compared(ours, theirs, "cost", logged=logged)),
                aiq=test.drawn(aiq, one - other),
                p_holm=float("nan"),
            )
        )
    return with_holm(pairs)


def _traffic(result: RouterResult, judged: Measurements) -> ReplayedTraffic:
    start = judged.field.layout.curves[ROUTER + result.name].start
    traffic: ReplayedTraffic = judged.field.traffic[start + result.verdict.offer.point]
    return traffic


def _advantage(quality_NA: Floats, alone: Singles) -> Floats:
    if alone.pair is None:
        return np.full(len(quality_NA), np.nan)
    return quality_NA[:, alone.pair[1]] - quality_NA[:, alone.pair[0]]


def _pgr(advantage_N: Floats, judged: Measurements) -> tuple[dict[str, float], dict[str, Interval]]:
    test, alone = judged.pool.test, judged.alone
    unknown = dict.fromkeys(("apgr", "cpt50", "cpt80"), float("nan"))
    if alone.pair is None:
        return unknown, {}
    weak_N, strong_N = (test.score_NA[:, column] for column in alone.pair)
    curve = pgr_curve(advantage_N, weak_N, strong_N)
    if curve is None:
        return unknown, {}
    drawn = apgr_replicates(advantage_N, weak_N, strong_N, judged.bootstrap.weights())
    interval = percentile_interval(drawn)
    figures = {"apgr": curve.apgr, "cpt50": curve.cpt(0.5), "cpt80": curve.cpt(0.8)}
    return figures, {"apgr": interval} if interval else {}


def baselines(judged: Measurements) -> dict[str, Baseline]:
    """All that needs no trained router."""
    pool, alone, layout = judged.pool, judged.alone, judged.field.layout
    baselines = {"best_single": single_result(judged, alone.best)}
    if pool.costs_known and alone.cheapest is not None:
        baselines["cheapest"] = single_result(judged, alone.cheapest)
    for name, at in (("random", layout.random), ("task_hindsight", layout.task_hindsight)):
        if at is not None:
            baselines[name] = Baseline(_points(judged, slice(at, at + 1)))
    for key, part in layout.curves.items():
        if key.startswith(BASELINE):
            baselines[key.removeprefix(BASELINE)] = _curve(key, part, judged)
    if "prompt_length" in baselines:
        length = baselines["prompt_length"]
        pgr, pgr_ci = _pgr(lengths(pool.test), judged)
        figures, ci95 = {**length.figures, **pgr}, {**length.ci95, **pgr_ci}
        baselines["prompt_length"] = Baseline(length.points, None, figures, ci95)
    return baselines


def _curve(key: str, part: slice, judged: Measurements) -> Baseline:
    points, found = _points(judged, part), judged.found
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


def single_result(judged: Measurements, column: int) -> Baseline:
    """An expert alone."""
    at = judged.field.experts[column]
    return Baseline(_points(judged, slice(at, at + 1)), judged.pool.test.experts[column])


def _points(judged: Measurements, part: slice) -> tuple[Point, ...]:
    return tuple(_point(judged, at) for at in range(part.start, part.stop))


def _point(judged: Measurements, at: int) -> Point:
    field, found, pool = judged.field, judged.found, judged.pool
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
