from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest

from eval.compare import compare
from eval.comparison import Comparison, MeasuredPoint
from eval.crew import LocalCrew
from eval.errors import ComparisonError
from eval.report.metrics_json import to_json
from experts.cards import Prices
from routers.records import OutcomeTable

MakeWorld = Callable[..., Any]


@pytest.fixture(scope="module")
def found(make_world: MakeWorld) -> Comparison:
    world = make_world(400)
    return compare(world.train, world.test, ["ridge", "category"], seed=0, replicates=300)


def test_routing_pays_where_it_must(found: Comparison) -> None:
    router = found.router(found.recommended)
    assert router.verdict.pays == "yes"
    assert router.verdict.offer.cost_save > 0.2
    assert router.verdict.offer.delta_quality > -0.03
    assert found.headline.startswith("Routing pays here: ")
    assert "always asking large" in found.headline


def test_every_documented_field_is_in_metrics_json(found: Comparison) -> None:
    metrics = json.loads(orjson.dumps(to_json(found)))
    assert {"data", "seed", "routers", "baselines"} <= metrics.keys()
    for router in metrics["routers"].values():
        assert {
            "fit_s", "decide_us_p50", "quality_max", "points", "aiq", "hypervolume", "apgr",
            "cost_save_at_best_single", "quality_gain_over_best_single", "gap_to_oracle", "ece",
            "brier", "ci95", "delta_aiq_vs_zero_router", "verdict", "aiq_code", "arena_score",
            "top1_optimal", "optimal_selection", "optimal_cost", "optimal_accuracy", "cost_of_pass",
            "gain_at_random", "gain_at_best", "gap_at_oracle", "oracle_at_its_cost", "regret",
            "gap_to_oracle_at_its_cost", "gap_within_tasks", "gap_learning_tasks", "gap_router",
            "pareto_distance", "pareto_distance_others", "recall", "robustness", "cpt50", "cpt80",
        } <= router.keys()  # fmt: skip
        assert {"aiq", "delta_aiq_vs_zero_router", "apgr", "hypervolume"} <= router["ci95"].keys()
        for point in router["points"]:
            assert {"lambda", "quality", "cost_usd", "share"} <= point.keys()
            assert sum(point["share"].values()) == pytest.approx(1)
    assert {
        "best_single", "cheapest", "random", "zero_router", "task_oracle", "oracle",
        "prompt_length", "task_hindsight",
    } <= metrics["baselines"].keys()  # fmt: skip
    assert metrics["baselines"]["best_single"]["expert"] == "large"
    assert metrics["baselines"]["cheapest"]["expert"] == "calc"
    assert metrics["data"]["n_test"] == 400
    assert metrics["data"]["experts"] == ["calc", "large", "middle"]


def test_figures_lie_inside_their_intervals_and_bounds(found: Comparison) -> None:
    for router in found.routers:
        for name, interval in router.ci95.items():
            # Distances and errors are larger in every draw than in the whole: noise adds to them.
            if name.startswith(("pareto", "ece", "brier")):
                continue
            assert interval.low <= router.figures[name] <= interval.high, name
        assert 0 <= router.figures["hypervolume"] <= 1
        assert 0 <= router.figures["aiq"] <= 1
        assert router.figures["delta_aiq_vs_zero_router"] > 0
        assert router.figures["apgr"] > 0.55
        assert router.fit_s > 0
        assert router.decide_us_p50 > 1
    oracle = found.baselines["oracle"]
    assert oracle.figures["aiq"] >= max(r.figures["aiq"] for r in found.routers)
    assert oracle.figures["gap_to_oracle"] == 0


def test_figures_can_be_worked_out_from_the_points(found: Comparison) -> None:
    router = found.router("ridge")
    best, oracle = found.baselines["best_single"].point, found.baselines["oracle"].point
    highest = max(point.quality for point in router.points)
    figures = router.figures
    assert figures["quality_max"] == pytest.approx(highest)
    gain = (highest - best.quality) / best.quality
    assert figures["quality_gain_over_best_single"] == pytest.approx(gain)
    assert figures["gap_to_oracle"] == pytest.approx((oracle.quality - highest) / oracle.quality)
    cheapest = min(p.cost_usd for p in router.points if p.quality >= best.quality)
    saved = (best.cost_usd - cheapest) / best.cost_usd
    assert figures["cost_save_at_best_single"] == pytest.approx(saved)


def test_the_zero_router_only_mixes_single_experts(found: Comparison) -> None:
    zero = found.baselines["zero_router"]
    singles = {(s.point.cost_usd, s.point.quality) for s in found.singles.values()}
    assert {(point.cost_usd, point.quality) for point in zero.points} <= singles
    assert zero.figures["delta_aiq_vs_zero_router"] == 0


def test_the_same_seed_finds_the_same(found: Comparison, make_world: MakeWorld) -> None:
    world = make_world(400)
    again = compare(world.train, world.test, ["ridge", "category"], seed=0, replicates=300)
    ours, theirs = (to_json(each) for each in (found, again))
    assert without_times(ours) == without_times(theirs)


def without_times(metrics: dict[str, Any]) -> dict[str, Any]:
    assert metrics.pop("seconds").keys() == {"encode", "routers", "judge"}
    for router in metrics["routers"].values():
        del router["fit_s"], router["decide_us_p50"]
        stages = {"load", "fit", "replay", "policies", "settings", "robustness", "timing"}
        assert router.pop("seconds").keys() == stages
    return metrics


def test_how_many_work_at_a_time_changes_nothing(make_world: MakeWorld) -> None:
    world = make_world(120)
    names = ["ridge", "knn+hashing", "category"]
    alone, together = (
        compare(world.train, world.test, names, replicates=20, crew=LocalCrew(jobs))
        for jobs in (1, 2)
    )
    assert without_times(to_json(together)) == without_times(to_json(alone))


def test_nothing_is_chosen_by_looking_at_the_test(make_world: MakeWorld) -> None:
    world = make_world(200, seed=1)
    upside_down = replace(world.test, score_NA=1 - world.test.score_NA)
    seen = compare(world.train, world.test, ["ridge", "category"], replicates=20)
    turned = compare(world.train, upside_down, ["ridge", "category"], replicates=20)
    assert seen.recommended == turned.recommended
    assert seen.baselines["best_single"].expert == turned.baselines["best_single"].expert
    for name in ("ridge", "category"):
        ours, theirs = seen.router(name), turned.router(name)
        assert [o.point for o in ours.verdict.offers] == [o.point for o in theirs.verdict.offers]
        assert ours.operating_point.share == theirs.operating_point.share
    for name in ("task_oracle", "prompt_length"):
        ours_, theirs_ = seen.baselines[name].points, turned.baselines[name].points
        assert [p.share for p in ours_] == [p.share for p in theirs_]
    assert turned.router(turned.recommended).verdict.pays != "yes"


def test_unknown_costs_are_null_and_never_nought(make_world: MakeWorld) -> None:
    world = make_world(200, costs=False)
    found = compare(world.train, world.test, ["ridge"], replicates=50)
    metrics = json.loads(orjson.dumps(to_json(found)))
    router = metrics["routers"]["ridge"]
    assert not found.costs_known
    assert metrics["baselines"]["cheapest"] is None
    assert len(router["points"]) == 1
    for name in ("aiq", "hypervolume", "cost_save_at_best_single", "delta_aiq_vs_zero_router"):
        assert router[name] is None
        assert name not in router["ci95"]
    assert router["points"][0]["cost_usd"] is None
    assert router["verdict"]["cost_save"] is None
    assert metrics["baselines"]["oracle"]["cost_usd"] is None
    assert metrics["baselines"]["oracle"]["quality"] > router["quality_max"]
    assert any("only quality is compared" in note for note in found.notes)


def test_prices_bring_costs_that_were_not_recorded(make_world: MakeWorld) -> None:
    world, priced = make_world(200, costs=False), make_world(200)
    prices = {"calc": Prices(1, 2), "middle": Prices(5, 10), "large": Prices(30, 60)}
    found = compare(world.train, world.test, ["category"], prices=prices, replicates=50)
    recorded = compare(priced.train, priced.test, ["category"], replicates=50)
    assert found.costs_known
    ours, theirs = (c.router("category").points for c in (found, recorded))
    assert [p.cost_usd for p in ours] == pytest.approx([p.cost_usd for p in theirs])


def test_a_router_that_cannot_be_trained_is_noted(make_world: MakeWorld) -> None:
    world = make_world(200, tasks=False)
    found = compare(world.train, world.test, ["ridge", "category"], replicates=20)
    assert [router.name for router in found.routers] == ["ridge"]
    assert any("Router category could not be trained" in note for note in found.notes)
    assert "task_oracle" not in found.baselines
    assert found.router("ridge").verdict.slices == ()
    with pytest.raises(ComparisonError, match="Router category could not be trained"):
        compare(world.train, world.test, ["category"], replicates=20)


def test_an_unknown_router_is_refused_before_any_work(make_world: MakeWorld) -> None:
    world = make_world(30)
    with pytest.raises(ComparisonError, match=r"there is no router .oracel.: .*known are .*ridge"):
        compare(world.train, world.test, ["ridge", "oracel"])
    with pytest.raises(ComparisonError, match="needs a router"):
        compare(world.train, world.test, [])


def test_progress_rises_to_one(make_world: MakeWorld) -> None:
    world = make_world(60)
    told: list[tuple[str, float]] = []
    compare(
        world.train,
        world.test,
        ["category"],
        replicates=20,
        progress=lambda what, done: told.append((what, done)),
    )
    shares = [done for _, done in told]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert [what for what, _ in told[:2]] == ["encoding with tfidf", "router category"]


def test_an_unobserved_choice_is_reported(make_world: MakeWorld) -> None:
    world = make_world(200)
    scores = world.test.score_NA.copy()
    scores[:50, 1] = np.nan
    holes: OutcomeTable = replace(world.test, score_NA=scores)
    found = compare(world.train, holes, ["category"], replicates=20)
    assert found.singles["large"].point.unobserved == 50
    assert found.router("category").points[0].unobserved > 0
    assert found.data["observed_share_test"] == pytest.approx(550 / 600)


def test_points_measured_elsewhere_are_kept(found: Comparison) -> None:
    point = MeasuredPoint("auto (live)", 0.9, None, {"calc": 1.0}, {"quality": (0.8, 0.95)})
    metrics = to_json(found.with_measured(point))
    assert metrics["measured"] == [
        {
            "name": "auto (live)",
            "quality": 0.9,
            "cost_usd": None,
            "share": {"calc": 1.0},
            "ci95": {"quality": [0.8, 0.95]},
        }
    ]


def test_routers_are_tested_in_pairs(found: Comparison) -> None:
    (pair,) = found.pairs
    assert pair.first == found.recommended
    ours, theirs = (found.router(name).operating_point for name in (pair.first, pair.second))
    assert pair.quality.difference == pytest.approx(ours.quality - theirs.quality)
    assert pair.cost.difference == pytest.approx(ours.cost_usd - theirs.cost_usd)
    assert 0 < pair.quality.p <= 1
    assert pair.p_holm == pair.quality.p


def test_only_the_pairs_that_are_asked_for_are_tested(make_world: MakeWorld) -> None:
    world = make_world(90)
    names, pairs = ["category", "ridge", "knn"], [("knn", "ridge")]
    found = compare(world.train, world.test, names, replicates=20, against=pairs)
    assert [(pair.first, pair.second) for pair in found.pairs] == pairs
    with pytest.raises(ComparisonError, match="'mlp' can't be compared"):
        compare(world.train, world.test, ["ridge"], replicates=20, against=[("ridge", "mlp")])


def test_the_parts_of_the_gap_add_up_to_the_distance_from_the_oracle(found: Comparison) -> None:
    oracle = found.baselines["oracle"].point.quality
    for router in found.routers:
        figures = router.figures
        parts = [figures[f"gap_{part}"] for part in ("within_tasks", "learning_tasks", "router")]
        assert sum(parts) == pytest.approx(oracle - router.operating_point.quality)
        assert figures["gap_within_tasks"] >= 0
        assert figures["gap_learning_tasks"] >= 0
        assert figures["regret"] == pytest.approx(sum(parts))


def test_no_router_beats_the_oracle_of_its_own_budget(found: Comparison) -> None:
    for router in found.routers:
        assert router.figures["gap_to_oracle_at_its_cost"] > 0
        assert router.ci95["gap_to_oracle_at_its_cost"].low > 0


def test_recall_counts_every_query_once(found: Comparison) -> None:
    for router in found.routers:
        assert sum(row.count for row in router.recall) == 400
        assert router.recall[0].quality == 0
        assert router.recall[-1].quality == 1
        total = sum(row.count * row.quality for row in router.recall if row.count)
        assert total / 400 == pytest.approx(router.operating_point.quality)
