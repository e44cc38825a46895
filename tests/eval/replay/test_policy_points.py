"""Policies that find their own setting on the training side, judged on the other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from eval.compare import compare
from eval.replay.policy_points import policy_points, shown_policies
from eval.replay.replay import cards_of
from eval.report.metrics_json import to_json
from eval.tables.pool import TrainTestPool, make_pool
from routers.fitting.fit import fit_router
from routers.policies.budget import BudgetPolicy
from routers.records import Preference
from routers.router import Router


@pytest.fixture(scope="module")
def pool(make_world: Any) -> TrainTestPool:
    world = make_world(600)
    return make_pool(world.train, world.test, None)


@pytest.fixture(scope="module")
def router(pool: TrainTestPool) -> Router:
    return fit_router("knn", "knn+hashing", pool.train, seed=0)


def test_each_keeps_its_promise_on_the_test_side(pool: TrainTestPool, router: Router) -> None:
    best = int(np.nanmean(pool.train.score_NA, axis=0).argmax())
    estimates = router.estimate(pool.test.prompts)
    shown = shown_policies(pool.train, best)
    found = {
        point.name: point.traffic
        for point in policy_points(router, shown, pool.test, estimates, pool.prices)
    }
    assert set(found) == set(shown)
    target = pool.test.score_NA[:, best].mean()
    assert found["99% of the best"].quality >= 0.99 * target - 0.02
    assert found["95% of the best"].quality >= 0.95 * target - 0.02
    assert found["95% of the best"].cost_usd <= found["99% of the best"].cost_usd
    budget = shown["half the cost"]
    assert isinstance(budget, BudgetPolicy)
    # What quality does not need is not used up.
    assert found["half the cost"].cost_usd <= 1.1 * budget.usd_per_request
    assert found["half the cost"].quality >= 0.9 * target


def test_without_a_rehearsal_or_costs_there_is_less_to_show(
    pool: TrainTestPool, router: Router
) -> None:
    estimates = router.estimate(pool.test.prompts)
    without = replace(router, rehearsal=None)
    shown = shown_policies(pool.train, 0)
    assert policy_points(without, shown, pool.test, estimates, pool.prices) == ()
    unpriced = replace(pool.train, cost_usd_NA=np.full_like(pool.train.cost_usd_NA, np.nan))
    assert "half the cost" not in shown_policies(unpriced, 0)
    assert router.practice(cards_of(pool.prices), Preference()).experts == pool.train.experts


def test_a_comparison_says_what_they_led_to_with_intervals(make_world: Any, tmp_path: Path) -> None:
    world = make_world(300)
    comparison = compare(world.train, world.test, ["knn+hashing"], seed=0)
    content = orjson.loads(orjson.dumps(to_json(comparison)))
    policies = content["routers"]["knn+hashing"]["policies"]
    assert {"95% of the best", "half the cost"} <= set(policies)
    for point in policies.values():
        low, high = point["ci95"]["quality"]
        assert low <= point["quality"] <= high
        assert sum(point["share"].values()) == pytest.approx(1)
