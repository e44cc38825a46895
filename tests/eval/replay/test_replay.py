from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from eval.replay.operating import sweep
from eval.replay.replay import (
    COST_WEIGHTS,
    always,
    candidates_per_query,
    cards_of,
    measure,
    request_of,
)
from experts.cards import Prices
from routers.eligible import Constraints
from routers.fitting.fit import fit_router
from routers.records import OutcomeTable, Preference
from routers.router import Router

MakeTable = Callable[..., OutcomeTable]
PRICES = {"a": Prices(1.0, 2.0), "b": Prices(10.0, 30.0), "c": None}


@pytest.fixture
def router(make_table: MakeTable) -> Router:
    rng = np.random.default_rng(0)
    prompts = [f"{'sum' if i % 2 else 'poem'} number {i}" for i in range(60)]
    good = np.array([[0.9, 0.6, 0.5] if i % 2 else [0.2, 0.7, 0.5] for i in range(60)])
    table = make_table((rng.random((60, 3)) < good) * 1.0, prompts=prompts)
    return fit_router("r", "ridge", table, seed=0)


def test_means_are_over_the_chosen_cells(make_table: MakeTable) -> None:
    table = make_table([[1.0, 0.0], [0.0, 0.5]], costs=[[1.0, 2.0], [3.0, 4.0]])
    traffic = measure(table, always(table, [0, 1]))
    assert traffic.quality == pytest.approx(0.75)
    assert traffic.cost_usd == pytest.approx(2.5)
    assert_array_equal(traffic.share_A, [0.5, 0.5])
    assert_array_equal(traffic.likeliest_N, [0, 1])
    assert traffic.unobserved == 0


def test_an_unobserved_choice_is_counted_and_left_out(make_table: MakeTable) -> None:
    table = make_table([[0.8, 1.0], [np.nan, 1.0]], costs=[[1.0, 9.0], [5.0, 9.0]])
    traffic = measure(table, always(table, [0, 0]))
    assert traffic.quality == pytest.approx(0.8)
    assert traffic.cost_usd == pytest.approx(1.0)
    assert traffic.unobserved == 1


def test_an_unknown_cost_is_left_out_of_the_mean_cost_alone(make_table: MakeTable) -> None:
    table = make_table([[1.0], [0.0]], costs=[[np.nan], [4.0]])
    traffic = measure(table, always(table, [0, 0]))
    assert traffic.quality == pytest.approx(0.5)
    assert traffic.cost_usd == pytest.approx(4.0)


def test_nothing_observed_is_unknown_and_not_nought(make_table: MakeTable) -> None:
    table = make_table([[np.nan, 1.0]])
    traffic = measure(table, always(table, [0]))
    assert np.isnan(traffic.quality)
    assert np.isnan(traffic.cost_usd)


def test_recorded_propensities_undo_uneven_logging(make_table: MakeTable) -> None:
    rng = np.random.default_rng(0)
    hard = rng.random(20_000) < 0.5
    truth = np.stack([np.where(hard, 0.2, 0.8), np.full(len(hard), 0.6)], axis=1)
    asks_first = np.where(hard, 0.9, 0.1)
    first = rng.random(len(hard)) < asks_first
    score = (rng.random(truth.shape) < truth) * 1.0
    score[np.arange(len(hard)), np.where(first, 1, 0)] = np.nan
    propensity = np.stack([asks_first, 1 - asks_first], axis=1)
    logged = make_table(score, propensity=propensity)
    traffic = measure(logged, always(logged, np.zeros(len(hard))))
    assert traffic.quality == pytest.approx(0.5, abs=0.02)
    naive = make_table(score)
    assert abs(measure(naive, always(naive, np.zeros(len(hard)))).quality - 0.5) > 0.2


def test_replay_weighs_what_serving_weighs(router: Router) -> None:
    prompts = ["sum number 7", "poem number 8"]
    cards = cards_of(PRICES)
    offline = candidates_per_query(router, prompts, router.estimate(prompts), cards)
    for prompt, candidates in zip(prompts, offline, strict=True):
        served = router.decide(
            request_of(prompt),
            cards,
            preference=Preference(cost_weight=0.3),
            policy_name="test",
            constraints=Constraints(),
            unhealthy={},
            uniform=0.5,
        )
        assert candidates.experts == served.candidates.experts
        for name in ("quality_A", "cost_usd_A", "output_tokens_A"):
            assert_allclose(getattr(candidates, name), getattr(served.candidates, name))
        assert candidates.cost_scale_usd == served.candidates.cost_scale_usd
        probabilities, _ = router.policy.distribution(candidates, Preference(cost_weight=0.3))
        assert_array_equal(probabilities, served.probabilities_A)


def test_a_sweep_goes_from_the_best_to_the_cheapest(router: Router, make_table: MakeTable) -> None:
    prompts = [f"{'sum' if i % 2 else 'poem'} number {i}" for i in range(60, 90)]
    table = make_table(np.full((30, 3), 0.5), costs=[[1.0, 10.0, 5.0]] * 30, prompts=prompts)
    prices = {"a": Prices(1, 2), "b": Prices(10, 30), "c": Prices(5, 9)}
    found = sweep(router, table, prices, COST_WEIGHTS)
    costs = [traffic.cost_usd for traffic in found.traffic]
    assert costs[-1] == 1.0
    assert all(later <= earlier for earlier, later in pairwise(costs))
    estimates = found.estimates
    assert estimates.quality_NA.shape == (30, 3)
    best = [estimates.experts[i] for i in estimates.quality_NA.argmax(axis=1)]
    assert [table.experts[i] for i in found.traffic[0].likeliest_N] == best
