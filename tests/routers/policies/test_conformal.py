"""Conformal escalation: wrong at most so often, whatever the estimates are worth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from routers.errors import TableError
from routers.fitting.practice import Practice
from routers.policies.conformal import FEWEST_OF_A_KIND, ConformalPolicy, lowest_threshold
from routers.records import Candidates, Floats, Preference

ANYTHING = Preference()


def a_query(cheap: float, others: tuple[float, float]) -> Candidates:
    unknown_A = np.full(3, np.nan)
    return Candidates(
        experts=("a", "b", "cheap"),
        quality_A=np.array([*others, cheap]),
        stderr_A=np.full(3, 0.05),
        cost_usd_A=np.array([0.01, 0.01, 0.001]),
        latency_s_A=unknown_A,
        output_tokens_A=unknown_A,
        penalty_A=np.zeros(3),
        cost_scale_usd=0.01,
        latency_scale_s=1.0,
    )


def practice(expected_N: Floats, score_N: Floats, kind_N: Floats) -> Practice:
    others = ((0.9, 0.8), (0.8, 0.9))
    queries = tuple(
        a_query(expected, others[int(kind)])
        for expected, kind in zip(expected_N, kind_N, strict=True)
    )
    score_NA = np.column_stack([np.ones_like(score_N), np.ones_like(score_N), score_N])
    unknown_NA = np.full_like(score_NA, np.nan)
    return Practice(queries, score_NA, unknown_NA, np.ones_like(score_NA))


def brute_force(expected_N: Floats, loss_N: Floats, alpha: float) -> float:
    count = len(loss_N)
    fine = [
        theta
        for theta in expected_N
        if (loss_N[expected_N >= theta].sum() + 1) / (count + 1) <= alpha + 1e-12
    ]
    # Whatever is lower loses more, so the lowest of those that are fine is the end of a run.
    return float(min(fine, default=2.0))


@pytest.mark.parametrize("seed", range(5))
def test_the_threshold_is_the_lowest_that_the_formula_allows(seed: int) -> None:
    rng = np.random.default_rng(seed)
    expected_N = np.round(rng.random(60), 1)
    loss_N = (rng.random(60) < 0.3).astype(float)
    for alpha in (0.02, 0.1, 0.2, 0.5):
        found = lowest_threshold(expected_N, loss_N, alpha)
        assert found == brute_force(expected_N, loss_N, alpha)


def test_answers_that_were_seldom_asked_for_count_the_more() -> None:
    rng = np.random.default_rng(3)
    expected_N = np.round(rng.random(400), 1)
    score_N = (rng.random(400) < expected_N).astype(float)
    chance_N = np.where(score_N == 1, 0.8, 0.2)
    asked_N3 = np.column_stack([np.ones(400), np.ones(400), chance_N])
    seen = replace(practice(expected_N, score_N, np.zeros(400)), propensity_NA=asked_N3)
    found = ConformalPolicy(0.2, cheap="cheap").fit(seen, ANYTHING).threshold
    assert found == lowest_threshold(expected_N, 1 - score_N, 0.2, 1 / chance_N)
    assert found is not None
    assert found > lowest_threshold(expected_N, 1 - score_N, 0.2)


@pytest.mark.parametrize("informative", [True, False])
def test_errors_stay_below_what_was_asked_over_200_random_splits(informative: bool) -> None:
    rng = np.random.default_rng(0)
    true_N = rng.random(4000)
    expected_N = true_N if informative else rng.random(4000)
    loss_N = (rng.random(4000) >= true_N).astype(float)
    wrong = []
    for _ in range(200):
        order_N = rng.permutation(4000)
        known_N, fresh_N = order_N[:500], order_N[500:]
        theta = lowest_threshold(expected_N[known_N], loss_N[known_N], 0.1)
        wrong.append((loss_N * (expected_N >= theta))[fresh_N].mean())
    stderr = np.std(wrong) / np.sqrt(len(wrong))
    assert np.mean(wrong) <= 0.1 + 2 * stderr
    # Neither is it far below: it keeps what it may.
    assert np.mean(wrong) > 0.08


def test_who_was_asked_rarely_counts_for_all_that_were_not() -> None:
    rng = np.random.default_rng(3)
    true_N = rng.random(20_000)
    propensity_N = np.where(true_N > 0.5, 0.8, 0.1)
    loss_N = (rng.random(20_000) >= true_N).astype(float)
    asked_N = rng.random(20_000) < propensity_N
    theta = lowest_threshold(
        true_N[asked_N], loss_N[asked_N], 0.1, weight_N=1 / propensity_N[asked_N]
    )
    assert (loss_N * (true_N >= theta)).mean() == pytest.approx(0.1, abs=0.01)


def test_each_kind_with_enough_outcomes_keeps_the_promise_by_itself() -> None:
    rng = np.random.default_rng(1)
    errors = np.zeros((25, 2))
    for trial in range(25):
        kind_N = (np.arange(1200) % 2).astype(float)
        expected_N = rng.random(1200)
        # Estimates flatter the second kind.
        right_N = rng.random(1200) < expected_N * np.where(kind_N == 1, 0.5, 1.0)
        known = slice(0, 800)
        fitted = ConformalPolicy(0.1).fit(
            practice(expected_N[known], right_N[known].astype(float), kind_N[known]), ANYTHING
        )
        assert set(fitted.thresholds) == {"a", "b"}
        theta_N = np.where(kind_N == 1, fitted.thresholds["b"], fitted.thresholds["a"])
        lost_N = (expected_N >= theta_N) & ~right_N
        errors[trial] = [lost_N[800:][kind_N[800:] == kind].mean() for kind in (0, 1)]
    stderr = errors.std(axis=0) / np.sqrt(25)
    assert (errors.mean(axis=0) <= 0.1 + 2 * stderr).all()


def test_a_kind_with_few_outcomes_shares_the_threshold_of_all() -> None:
    rng = np.random.default_rng(1)
    count = 2 * FEWEST_OF_A_KIND
    kind_N = (np.arange(count) < FEWEST_OF_A_KIND - 1).astype(float)
    score_N = (rng.random(count) < 0.8).astype(float)
    fitted = ConformalPolicy(0.1).fit(practice(rng.random(count), score_N, kind_N), ANYTHING)
    assert set(fitted.thresholds) == {"a"}
    assert fitted.threshold is not None


def test_it_keeps_above_the_threshold_and_escalates_to_the_best_other_below() -> None:
    policy = ConformalPolicy(cheap="cheap", threshold=0.6, thresholds={"b": 0.9})
    for cheap, others, expected in (
        (0.7, (0.9, 0.8), "cheap"),
        (0.5, (0.9, 0.8), "a"),
        (0.7, (0.8, 0.9), "b"),
        (0.95, (0.8, 0.9), "cheap"),
    ):
        query = a_query(cheap, others)
        probabilities_A, _ = policy.distribution(query, ANYTHING)
        assert query.experts[int(probabilities_A.argmax())] == expected
        assert probabilities_A.max() == 1


def test_unfitted_and_where_nothing_is_safe_it_escalates() -> None:
    query = a_query(1.0, (0.9, 0.8))
    never = lowest_threshold(np.array([0.9, 0.8]), np.array([1.0, 1.0]), 0.1)
    for threshold in (None, never):
        policy = ConformalPolicy(cheap="cheap", threshold=threshold)
        assert policy.distribution(query, ANYTHING)[0].tolist() == [1, 0, 0]


def test_without_a_cheap_expert_or_without_others_somebody_answers() -> None:
    policy = ConformalPolicy(cheap="cheap", threshold=0.6)
    query = a_query(0.5, (0.9, 0.8))
    without = replace(query, experts=("a", "b", "c"))
    assert policy.distribution(without, ANYTHING)[0].tolist() == [1, 0, 0]
    strict = Preference(min_quality=0.95)
    only_cheap = a_query(0.99, (0.5, 0.4))
    assert policy.distribution(only_cheap, strict)[0].tolist() == [0, 0, 1]


def test_outcomes_of_the_cheap_expert_are_needed() -> None:
    unknown_N = np.full(10, np.nan)
    with pytest.raises(TableError, match="no outcome of 'cheap'"):
        ConformalPolicy().fit(practice(np.ones(10), unknown_N, np.zeros(10)), ANYTHING)
