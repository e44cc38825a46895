"""Softmax, Thompson, top-p and the two bounds: propensities that are what they say."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare, norm

from routers.explore import draw
from routers.policies.bounds import OptimisticPolicy, PessimisticPolicy
from routers.policies.greedy import GreedyUtilityPolicy
from routers.policies.softmax import SoftmaxPolicy
from routers.policies.thompson import ThompsonPolicy, chances_of_being_best
from routers.policies.top_p import TopPPolicy, top_p
from routers.records import Candidates, Floats, Preference
from routers.registry import make_policy

ANYTHING = Preference()


def pool(quality: list[float], stderr: list[float] | None = None) -> Candidates:
    count = len(quality)
    unknown_A = np.full(count, np.nan)
    return Candidates(
        experts=tuple("abcdefgh"[:count]),
        quality_A=np.array(quality),
        stderr_A=np.array(stderr or [0.1] * count),
        cost_usd_A=np.zeros(count),
        latency_s_A=unknown_A,
        output_tokens_A=unknown_A,
        penalty_A=np.zeros(count),
        cost_scale_usd=0.01,
        latency_scale_s=1.0,
    )


def test_softmax_follows_its_formula() -> None:
    probabilities_A, _ = SoftmaxPolicy(0.1).distribution(pool([0.5, 0.6, 0.4]), ANYTHING)
    odds = [math.exp(q / 0.1) for q in (0.5, 0.6, 0.4)]
    np.testing.assert_allclose(probabilities_A, np.array(odds) / sum(odds))


def test_softmax_and_thompson_ask_nobody_below_the_least_quality() -> None:
    some = pool([0.5, 0.6, 0.4])
    for policy in (SoftmaxPolicy(1.0), ThompsonPolicy()):
        probabilities_A, _ = policy.distribution(some, Preference(min_quality=0.45))
        assert probabilities_A[2] == 0
        assert min(probabilities_A[:2]) > 0


@pytest.mark.parametrize("difference", [0.0, 0.05, 0.3])
def test_of_two_the_chance_is_that_of_their_difference(difference: float) -> None:
    chances_A = chances_of_being_best(np.array([0.5 + difference, 0.5]), np.array([0.1, 0.2]))
    assert chances_A[0] == pytest.approx(norm.cdf(difference / math.hypot(0.1, 0.2)), abs=1e-4)


def test_who_is_nearly_certain_is_resolved_as_well_as_who_is_not() -> None:
    mean_A, stderr_A = np.array([0.5, 0.5005, 0.3]), np.array([1e-4, 1e-4, 0.25])
    drawn_NA = np.random.default_rng(0).normal(mean_A, stderr_A, (200_000, 3))
    frequency_A = np.bincount(drawn_NA.argmax(axis=1), minlength=3) / len(drawn_NA)
    np.testing.assert_allclose(chances_of_being_best(mean_A, stderr_A), frequency_A, atol=0.005)


def test_thompson_propensities_are_the_frequencies_of_its_draws_and_of_sampling() -> None:
    some = pool([0.6, 0.55, 0.5, 0.3], [0.05, 0.1, 0.2, 0.1])
    probabilities_A, _ = ThompsonPolicy().distribution(some, ANYTHING)
    assert probabilities_A.sum() == pytest.approx(1)
    rng = np.random.default_rng(1)
    drawn = [draw(probabilities_A, u) for u in rng.random(20_000)]
    sampled_NA = rng.normal(some.quality_A, some.stderr_A, (20_000, 4))
    for chosen in (drawn, sampled_NA.argmax(axis=1)):
        counts_A = np.bincount(chosen, minlength=4)
        assert chisquare(counts_A, probabilities_A * 20_000).pvalue > 0.001


def test_bounds_without_width_are_greedy_and_with_it_mind_who_is_little_known() -> None:
    some = pool([0.6, 0.55], [0.02, 0.2])
    for policy in (OptimisticPolicy(0), PessimisticPolicy(0)):
        greedy = GreedyUtilityPolicy().distribution(some, ANYTHING)
        np.testing.assert_array_equal(policy.distribution(some, ANYTHING), greedy)
    assert OptimisticPolicy().distribution(some, ANYTHING)[0].argmax() == 1
    turned = replace(some, quality_A=some.quality_A[::-1])
    assert GreedyUtilityPolicy().distribution(turned, ANYTHING)[0].argmax() == 1
    assert PessimisticPolicy().distribution(turned, ANYTHING)[0].argmax() == 0


DISTRIBUTIONS = st.lists(st.floats(0.001, 1), min_size=1, max_size=7).map(
    lambda odds: np.array(odds) / sum(odds)
)


@given(DISTRIBUTIONS, st.floats(0.01, 1))
def test_a_set_is_the_smallest_that_holds_enough(probabilities_A: Floats, tau: float) -> None:
    chosen = list(top_p(probabilities_A, tau))
    assert probabilities_A[chosen].sum() >= tau - 1e-9
    without_the_least = probabilities_A[chosen[:-1]].sum()
    assert without_the_least < tau
    largest = np.sort(probabilities_A)[::-1][: len(chosen)]
    np.testing.assert_array_equal(np.sort(probabilities_A[chosen])[::-1], largest)
    assert (len(chosen) == 1) == (probabilities_A.max() >= tau - 1e-9) or tau >= 1 - 1e-9


@given(DISTRIBUTIONS, st.floats(0.01, 1), st.floats(0.01, 1))
def test_a_set_grows_with_what_it_must_hold(p_A: Floats, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert set(top_p(p_A, low)) <= set(top_p(p_A, high))


@given(DISTRIBUTIONS, st.floats(0.01, 1), st.floats(1, 4))
def test_a_set_grows_with_entropy(p_A: Floats, tau: float, sharper: float) -> None:
    sharp_A = p_A**sharper / (p_A**sharper).sum()
    assert len(top_p(sharp_A, tau - 1e-9)) <= len(top_p(p_A, tau))


def test_the_top_p_policy_draws_from_its_set_alone() -> None:
    some = pool([0.6, 0.58, 0.3])
    probabilities_A, utility_A = TopPPolicy(0.8, 0.05).distribution(some, ANYTHING)
    whole_A, _ = SoftmaxPolicy(0.05).distribution(some, ANYTHING)
    assert probabilities_A[2] == 0
    np.testing.assert_allclose(probabilities_A[:2], whole_A[:2] / whole_A[:2].sum())
    np.testing.assert_array_equal(utility_A, some.quality_A)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("softmax", {"temperature": 0}),
        ("thompson", {"stderrs": -1}),
        ("top_p", {"mass": 0}),
        ("top_p", {"mass": 1.1}),
    ],
)
def test_settings_that_make_no_sense_are_refused(name: str, settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must be"):
        make_policy(name, **settings)
