"""Threshold, budget, floor, capacity: what they promise, in a world whose truth is known."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from routers.base import Policy
from routers.errors import TableError
from routers.fitting.practice import Practice, greedy_sweep
from routers.policies.budget import BudgetPolicy, upper_hull
from routers.policies.capacity import CapacityPolicy
from routers.policies.floor import FloorPolicy
from routers.policies.greedy import GreedyUtilityPolicy
from routers.policies.threshold import ThresholdPolicy
from routers.records import Candidates, Floats, Preference

ANYTHING = Preference()
EXPERTS = ("large", "medium", "small")
USD = np.array([0.010, 0.003, 0.001])
SKILL = np.array([0.85, 0.75, 0.55])


@cache
def world(count: int, seed: int = 0) -> Practice:
    """Queries of known difficulty: on easy ones all are as good, on hard ones only the large."""
    rng = np.random.default_rng(seed)
    ease_N1 = rng.random((count, 1))
    true_NA = np.clip(SKILL + (1 - SKILL) * ease_N1 * 0.9, 0, 1)
    expected_NA = np.clip(true_NA + rng.normal(0, 0.02, true_NA.shape), 0, 1)
    paid_NA = USD * rng.lognormal(-0.125, 0.5, true_NA.shape)
    score_NA = (rng.random(true_NA.shape) < true_NA).astype(float)
    queries = tuple(candidates(expected_A) for expected_A in expected_NA)
    return Practice(queries, score_NA, paid_NA, np.ones_like(score_NA))


def candidates(quality_A: Floats, stderr: float = 0.02) -> Candidates:
    unknown_A = np.full(len(quality_A), np.nan)
    return Candidates(
        experts=EXPERTS[: len(quality_A)],
        quality_A=quality_A,
        stderr_A=np.full(len(quality_A), stderr),
        cost_usd_A=USD[: len(quality_A)],
        latency_s_A=unknown_A,
        output_tokens_A=unknown_A,
        penalty_A=np.zeros(len(quality_A)),
        cost_scale_usd=0.01,
        latency_scale_s=1.0,
    )


def chosen(policy: Policy, practice: Practice, preference: Preference = ANYTHING) -> Floats:
    """P(expert | query), shape (N, A)."""
    return np.stack([policy.distribution(query, preference)[0] for query in practice.queries])


def test_a_sweep_does_what_the_greedy_policy_does() -> None:
    practice = world(50)
    preference = Preference(min_quality=0.7)
    sweep = greedy_sweep(practice, preference, (0.0, 0.1, 1.0))
    for weight, chosen_N in zip(sweep.cost_weights, sweep.chosen_KN, strict=True):
        weighed = replace(preference, cost_weight=weight)
        probabilities_NA = chosen(GreedyUtilityPolicy(), practice, weighed)
        np.testing.assert_array_equal(probabilities_NA.argmax(axis=1), chosen_N)
    assert (np.diff(sweep.spend_K) <= 0).all()


def test_outcomes_of_a_log_count_for_what_was_not_asked() -> None:
    whole = world(20_000)
    propensity_NA = np.full(whole.score_NA.shape, 0.25)
    asked_NA = np.random.default_rng(1).random(whole.score_NA.shape) < propensity_NA
    score_NA = np.where(asked_NA, whole.score_NA, np.nan)
    logged = Practice(whole.queries, score_NA, whole.paid_usd_NA, propensity_NA)
    np.testing.assert_array_equal(whole.value, whole.score_NA)
    np.testing.assert_allclose(logged.value.mean(axis=0), whole.value.mean(axis=0), atol=0.02)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.83, 1.0])
def test_the_strong_expert_gets_the_share_that_was_asked_for(share: float) -> None:
    practice = world(500)
    fitted = ThresholdPolicy(share).fit(practice, ANYTHING)
    assert (fitted.strong, fitted.weak) == ("large", "small")
    share_A = chosen(fitted, practice).mean(axis=0)
    np.testing.assert_allclose(share_A, [share, 0, 1 - share], atol=1e-12)
    fresh_A = chosen(fitted, world(5000, seed=9)).mean(axis=0)
    assert fresh_A[0] == pytest.approx(share, abs=0.06)


def test_a_share_comes_out_even_where_many_queries_are_alike() -> None:
    flat = world(40)
    same = replace(flat, queries=tuple(candidates(SKILL) for _ in range(40)))
    fitted = ThresholdPolicy(0.3).fit(same, ANYTHING)
    np.testing.assert_allclose(chosen(fitted, same).mean(axis=0), [0.3, 0, 0.7])


def test_the_strong_expert_gets_those_that_gain_most() -> None:
    practice = world(500)
    fitted = ThresholdPolicy(0.4).fit(practice, ANYTHING)
    gain_N = practice.quality[:, 0] - practice.quality[:, 2]
    strong_N = chosen(fitted, practice)[:, 0] == 1
    assert gain_N[strong_N].min() >= gain_N[~strong_N].max()


def test_of_a_pair_who_can_be_asked_is_asked() -> None:
    fitted = ThresholdPolicy(0.5).fit(world(100), ANYTHING)
    only_weak = replace(candidates(np.array([0.4, 0.9])), experts=("other", "small"))
    neither = replace(only_weak, experts=("other", "another"))
    assert fitted.distribution(only_weak, ANYTHING)[0].tolist() == [0, 1]
    assert fitted.distribution(neither, ANYTHING)[0].tolist() == [0, 1]


def test_a_win_rate_is_reached_or_not() -> None:
    two = candidates(np.array([0.8, 0.6]))
    for threshold, strong in ((0.59, 1), (0.61, 0), (0.0, 1), (1.0, 0)):
        policy = ThresholdPolicy(threshold=threshold)
        assert policy.distribution(two, ANYTHING)[0].tolist() == [strong, 1 - strong]


@pytest.mark.parametrize("usd", [0.0015, 0.002, 0.004, 0.008])
def test_a_budget_is_met_on_held_out_queries(usd: float) -> None:
    fitted = BudgetPolicy(usd).fit(world(8000), ANYTHING)
    fresh = world(8000, seed=5)
    probabilities_NA = chosen(fitted, fresh)
    assert (probabilities_NA * fresh.spend).sum(axis=1).mean() == pytest.approx(usd, rel=0.02)


def test_a_budget_buys_more_than_mixing_two_experts_blindly() -> None:
    practice, fresh = world(4000), world(4000, seed=5)
    fitted = BudgetPolicy(0.004).fit(practice, ANYTHING)
    reached = (chosen(fitted, fresh) * fresh.value).sum(axis=1).mean()
    share = (0.004 - USD[2]) / (USD[0] - USD[2])
    mean_A = fresh.value.mean(axis=0)
    blindly = share * mean_A[0] + (1 - share) * mean_A[2]
    assert reached > blindly + 0.01


def test_a_budget_below_all_goes_to_the_cheapest_and_one_above_is_not_used_up() -> None:
    practice = world(500)
    poor = BudgetPolicy(1e-5).fit(practice, ANYTHING)
    assert chosen(poor, practice).mean(axis=0).tolist() == [0, 0, 1]
    rich = BudgetPolicy(5.0).fit(practice, ANYTHING)
    best = greedy_sweep(practice, ANYTHING)
    reached = (chosen(rich, practice) * practice.value).sum(axis=1).mean()
    assert reached == pytest.approx(best.value_K.max())


def test_a_hull_is_concave_and_nothing_lies_above_it() -> None:
    rng = np.random.default_rng(0)
    cost_K, quality_K = rng.random(200), rng.random(200)
    hull = upper_hull(cost_K, quality_K)
    slopes = np.diff(quality_K[hull]) / np.diff(cost_K[hull])
    assert (slopes > 0).all()
    assert (np.diff(slopes) < 0).all()
    assert cost_K[hull[0]] == cost_K.min()
    line_K = np.interp(cost_K, cost_K[hull], quality_K[hull])
    assert (quality_K <= line_K + 1e-12).all()


def test_a_floor_holds_in_nineteen_of_twenty_worlds_at_less_than_the_price_of_the_best() -> None:
    truth = greedy_sweep(world(20_000, seed=99), ANYTHING)
    best = world(20_000, seed=99).value.mean(axis=0).max()
    kept, spent = [], []
    for seed in range(100):
        fitted = FloorPolicy(0.95, 0.95).fit(world(400, seed=seed), ANYTHING)
        assert fitted.cost_weight is not None
        index = truth.cost_weights.index(fitted.cost_weight)
        kept.append(bool(fitted.always) or truth.value_K[index] >= 0.95 * best)
        spent.append(USD[0] if fitted.always else truth.spend_K[index])
    # 95 of 100 on average; less than 90 would be a chance of 1 in 100 if it were 95 each.
    assert sum(kept) >= 90
    assert np.mean(spent) < 0.7 * USD[0]


def test_a_floor_with_more_to_give_up_costs_less() -> None:
    practice = world(2000)
    weights = [
        FloorPolicy(share).fit(practice, ANYTHING).cost_weight or 0.0
        for share in (0.99, 0.95, 0.9, 0.8)
    ]
    assert weights == sorted(weights)
    assert weights[0] < weights[-1]


def test_a_floor_that_no_setting_keeps_stays_with_the_best_expert() -> None:
    rng = np.random.default_rng(0)
    good = world(300)
    misled = replace(good, queries=tuple(candidates(rng.random(3)) for _ in range(300)))
    fitted = FloorPolicy(0.99).fit(misled, ANYTHING)
    assert fitted.always == "large"
    assert chosen(fitted, misled).mean(axis=0).tolist() == [1, 0, 0]


def test_an_unfitted_floor_goes_by_what_is_sure_of_each_request() -> None:
    policy = FloorPolicy(0.9)
    near = np.array([0.80, 0.79, 0.78])
    sure, unsure = candidates(near, stderr=0.005), candidates(near, stderr=0.2)
    assert policy.distribution(sure, ANYTHING)[0].tolist() == [0, 0, 1]
    assert policy.distribution(unsure, ANYTHING)[0].tolist() == [1, 0, 0]


def test_capacity_keeps_each_expert_within_its_share_and_gives_it_whom_it_helps_most() -> None:
    practice, fresh = world(1000), world(4000, seed=7)
    assert chosen(CapacityPolicy(), fresh).mean(axis=0)[0] > 0.8
    fitted = CapacityPolicy({"large": 0.2, "medium": 0.3}).fit(practice, ANYTHING)
    share_A = chosen(fitted, practice).mean(axis=0)
    np.testing.assert_allclose(share_A, [0.2, 0.3, 0.5], atol=0.001)
    probabilities_NA = chosen(fitted, fresh)
    assert (probabilities_NA.mean(axis=0)[:2] <= [0.24, 0.34]).all()
    gain_N = fresh.quality[:, 0] - fresh.quality[:, 2]
    assert np.average(gain_N, weights=probabilities_NA[:, 0]) > gain_N.mean() + 0.03


def test_shares_that_leave_traffic_over_are_refused() -> None:
    shares = dict.fromkeys(EXPERTS, 0.3)
    with pytest.raises(TableError, match="nobody takes"):
        CapacityPolicy(shares).fit(world(50), ANYTHING)


def test_an_expert_that_does_not_exist_is_named() -> None:
    for policy in (ThresholdPolicy(strong="giant"), CapacityPolicy({"giant": 0.5})):
        with pytest.raises(TableError, match="giant"):
            policy.fit(world(50), ANYTHING)
