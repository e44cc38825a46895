from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from eval.replay.baselines import lengths
from eval.replay.batches import make_batch, replayed
from eval.replay.replay import (
    COST_WEIGHTS,
    ReplayedTraffic,
    always,
    candidates_per_query,
    cards_of,
    choices,
    measure,
    measure_columns,
)
from experts.cards import Prices
from routers.fitting.fit import fit_router
from routers.policies.uniform import UniformPolicy
from routers.records import Estimates, OutcomeTable, Preference
from routers.router import Router

MakeTable = Callable[..., OutcomeTable]
PRICES = {
    "a": Prices(1.0, 2.0),
    "b": Prices(10.0, 30.0),
    "c": None,
    "d": Prices(0.0, 0.0, request=1e-5),
    "e": Prices(1.0, 2.0),
}


@pytest.fixture
def table(make_table: MakeTable) -> OutcomeTable:
    rng = np.random.default_rng(0)
    prompts = [f"{('sum', 'poem')[i % 2]} {'naïve ' * (i % 7)}{i}" for i in range(80)]
    score_NA = (rng.random((80, 5)) < 0.6) * 1.0
    score_NA[rng.random((80, 5)) < 0.2] = np.nan
    cost_NA = np.where(rng.random((80, 5)) < 0.2, np.nan, rng.random((80, 5)))
    return make_table(score_NA, prompts=prompts, costs=cost_NA)


@pytest.fixture
def router(table: OutcomeTable) -> Router:
    return fit_router("r", "ridge", table, seed=0)


def holey(estimates: Estimates) -> Estimates:
    """With what serving code meets too: unknown qualities and tokens, and exact ties."""
    rng = np.random.default_rng(1)
    quality_NA = np.round(rng.random(estimates.quality_NA.shape), 1)
    quality_NA[rng.random(quality_NA.shape) < 0.1] = np.nan
    tokens_NA = rng.integers(5, 500, quality_NA.shape).astype(float)
    tokens_NA[rng.random(quality_NA.shape) < 0.3] = np.nan
    return replace(estimates, quality_NA=quality_NA, output_tokens_NA=tokens_NA)


def test_a_batch_decides_what_the_serving_code_decides(table: OutcomeTable, router: Router) -> None:
    estimates = holey(router.estimate(table.prompts))
    batch = make_batch(router, lengths(table), estimates, PRICES)
    queries = candidates_per_query(router, table.prompts, estimates, cards_of(PRICES))
    decided = set()
    for weight in COST_WEIGHTS:
        served_NA = choices(router.policy, queries, Preference(cost_weight=weight))
        assert_array_equal(batch.greedy(weight), served_NA.argmax(axis=1), err_msg=str(weight))
        decided |= set(served_NA.argmax(axis=1).tolist())
    assert len(decided) > 3


def assert_same(one: ReplayedTraffic, other: ReplayedTraffic) -> None:
    for field in fields(ReplayedTraffic):
        assert_array_equal(getattr(one, field.name), getattr(other, field.name), field.name)


def test_one_expert_per_query_is_measured_alike(table: OutcomeTable) -> None:
    columns_N = np.random.default_rng(2).integers(5, size=80)
    chance_NA = np.random.default_rng(3).uniform(0.1, 1, table.score_NA.shape)
    for each in (table, replace(table, propensity_NA=chance_NA)):
        assert_same(measure_columns(each, columns_N), measure(each, always(each, columns_N)))


def test_another_policy_is_asked_query_by_query(table: OutcomeTable, router: Router) -> None:
    estimates = router.estimate(table.prompts)
    uniform = replace(router, policy=UniformPolicy())
    (found,) = replayed(uniform, table, estimates, PRICES, (0.1,))
    assert_allclose(found.share_A, 0.2)
    (greedy,) = replayed(router, table, estimates, PRICES, (0.1,))
    assert not np.array_equal(greedy.share_A, found.share_A)
