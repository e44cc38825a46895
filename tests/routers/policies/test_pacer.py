"""The pacer keeps its budget whatever becomes of prices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from routers.base import AdaptivePolicy
from routers.explore import draw
from routers.fitting.practice import Practice
from routers.policies.pacer import PacerPolicy
from routers.records import Candidates, Floats, Preference

ANYTHING = Preference()
STEPS = 5000
USD = np.array([0.010, 0.003, 0.001])
BUDGET = 0.004


def a_query(quality_A: Floats, factor: float) -> Candidates:
    unknown_A = np.full(3, np.nan)
    return Candidates(
        experts=("large", "medium", "small"),
        quality_A=quality_A,
        stderr_A=np.full(3, 0.02),
        cost_usd_A=factor * USD,
        latency_s_A=unknown_A,
        output_tokens_A=unknown_A,
        penalty_A=np.zeros(3),
        cost_scale_usd=0.01,
        latency_scale_s=1.0,
    )


def stream(count: int, seed: int) -> Floats:
    """Expected qualities, shape (N, 3): on easy queries all are nearly as good."""
    ease_N1 = np.random.default_rng(seed).random((count, 1))
    skill_A = np.array([0.9, 0.75, 0.55])
    return skill_A + (0.95 - skill_A) * ease_N1


def spend(policy: AdaptivePolicy, factors: Floats, seed: int = 0) -> Floats:
    """What each request of a stream costs, its answers of random length."""
    rng = np.random.default_rng(seed)
    paid_N = np.zeros(len(factors))
    for step, quality_A in enumerate(stream(len(factors), seed)):
        query = a_query(quality_A, factors[step])
        probabilities_A, _ = policy.distribution(query, ANYTHING)
        chosen = draw(probabilities_A, float(rng.random()))
        paid_N[step] = query.cost_usd_A[chosen] * rng.lognormal(-0.125, 0.5)
        policy.observe(paid_N[step])
    return paid_N


def practice() -> Practice:
    quality_NA = stream(500, seed=8)
    unknown_NA = np.full_like(quality_NA, np.nan)
    queries = tuple(a_query(quality_A, 1.0) for quality_A in quality_NA)
    return Practice(queries, unknown_NA, unknown_NA, np.ones_like(quality_NA))


@pytest.mark.parametrize("factor", [1.0, 0.5, 2.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_budget_is_kept_within_two_per_cent_when_prices_change(
    factor: float, seed: int
) -> None:
    policy = PacerPolicy(BUDGET).fit(practice(), ANYTHING)
    factors = np.where(np.arange(STEPS) < STEPS // 2, 1.0, factor)
    assert spend(policy, factors, seed).mean() == pytest.approx(BUDGET, rel=0.02)


def test_without_pacing_a_change_of_prices_breaks_the_budget() -> None:
    policy = PacerPolicy(BUDGET, step=1e-9).fit(practice(), ANYTHING)
    factors = np.where(np.arange(STEPS) < STEPS // 2, 1.0, 2.0)
    assert abs(spend(policy, factors).mean() / BUDGET - 1) > 0.05


def test_its_start_is_close_to_where_it_settles() -> None:
    fitted = PacerPolicy(BUDGET).fit(practice(), ANYTHING)
    learned = PacerPolicy(BUDGET)
    assert learned.price == 0
    spend(learned, np.ones(STEPS))
    assert fitted.price == pytest.approx(learned.price, abs=0.05)


def test_too_much_makes_money_dearer_and_too_little_cheaper() -> None:
    policy = PacerPolicy(BUDGET, step=0.01)
    policy.observe(2 * BUDGET)
    assert policy.price == pytest.approx(0.01)
    policy.observe(0.5 * BUDGET)
    assert policy.price == pytest.approx(0.005)
    policy.observe(0.0)
    assert policy.price == 0
    policy.observe(1e6)
    assert policy.price == policy.most


def test_what_it_gives_up_quality_for_is_relative_to_the_budget() -> None:
    policy = PacerPolicy(BUDGET)
    query = a_query(np.array([0.9, 0.8, 0.5]), 1.0)
    policy.price = 0.05
    _, utility_A = policy.distribution(query, ANYTHING)
    np.testing.assert_allclose(utility_A, query.quality_A - 0.05 * USD / BUDGET)


def test_unfitted_it_keeps_a_budget_too_once_it_has_learned() -> None:
    paid_N = spend(PacerPolicy(BUDGET), np.ones(2 * STEPS))
    assert paid_N[STEPS:].mean() == pytest.approx(BUDGET, rel=0.02)


def test_it_takes_up_again_what_another_has_learned() -> None:
    policy = PacerPolicy(BUDGET, start=0.2)
    again = replace(policy, start=policy.price)
    assert again.price == 0.2
