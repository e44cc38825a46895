"""What every policy owes its users."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routers.base import Policy
from routers.explore import draw
from routers.records import Candidates, Floats, Preference
from routers.registry import make_policy, policy_names

POLICIES = policy_names()
NAN = float("nan")


@st.composite
def pools(drawn: st.DrawFn) -> Candidates:
    count = drawn(st.integers(1, 6))

    def column(strategy: st.SearchStrategy[float]) -> Floats:
        return np.array(drawn(st.lists(strategy, min_size=count, max_size=count)))

    maybe = st.one_of(st.just(NAN), st.floats(0, 100))
    return Candidates(
        experts=tuple(f"e{i}" for i in range(count)),
        quality_A=column(st.floats(0, 1)),
        stderr_A=column(st.floats(0, 0.5)),
        cost_usd_A=column(maybe),
        latency_s_A=column(maybe),
        output_tokens_A=column(maybe),
        penalty_A=column(st.floats(0, 1)),
        cost_scale_usd=drawn(st.floats(1e-6, 10)),
        latency_scale_s=drawn(st.floats(1e-3, 100)),
    )


PREFERENCES = st.builds(
    Preference,
    cost_weight=st.floats(0, 5),
    latency_weight=st.floats(0, 5),
    min_quality=st.floats(0, 1),
)
every_policy = pytest.mark.parametrize(
    "policy", [make_policy(name) for name in POLICIES], ids=POLICIES
)


@every_policy
@settings(max_examples=25)
@given(pool=pools(), preference=PREFERENCES)
def test_it_returns_a_distribution_and_finite_utilities(
    policy: Policy, pool: Candidates, preference: Preference
) -> None:
    probabilities_A, utility_A = policy.distribution(pool, preference)
    assert probabilities_A.shape == utility_A.shape == (len(pool.experts),)
    assert (probabilities_A >= 0).all()
    assert probabilities_A.sum() == pytest.approx(1)
    assert np.isfinite(utility_A).all()


@every_policy
@settings(max_examples=25)
@given(pool=pools(), preference=PREFERENCES)
def test_asking_twice_changes_nothing(
    policy: Policy, pool: Candidates, preference: Preference
) -> None:
    before = {name: getattr(pool, name).copy() for name in ("quality_A", "cost_usd_A", "penalty_A")}
    first, second = (policy.distribution(pool, preference) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    for name, values_A in before.items():
        np.testing.assert_array_equal(getattr(pool, name), values_A)


@every_policy
@settings(max_examples=25)
@given(pool=pools(), preference=PREFERENCES)
def test_the_order_of_experts_changes_nothing(
    policy: Policy, pool: Candidates, preference: Preference
) -> None:
    backwards = replace(
        pool,
        experts=pool.experts[::-1],
        quality_A=pool.quality_A[::-1],
        stderr_A=pool.stderr_A[::-1],
        cost_usd_A=pool.cost_usd_A[::-1],
        latency_s_A=pool.latency_s_A[::-1],
        output_tokens_A=pool.output_tokens_A[::-1],
        penalty_A=pool.penalty_A[::-1],
    )
    straight = policy.distribution(pool, preference)
    turned = policy.distribution(backwards, preference)
    for one, other in zip(straight, turned, strict=True):
        np.testing.assert_allclose(other[::-1], one, atol=1e-9)


@every_policy
@settings(max_examples=25)
@given(pool=pools(), preference=PREFERENCES)
def test_the_propensity_is_how_often_it_is_drawn(
    policy: Policy, pool: Candidates, preference: Preference
) -> None:
    probabilities_A, _ = policy.distribution(pool, preference)
    grid = (np.arange(60) + 0.5) / 60
    counts_A = np.bincount([draw(probabilities_A, u) for u in grid], minlength=len(pool.experts))
    np.testing.assert_allclose(counts_A / 60, probabilities_A, atol=1 / 60 + 1e-9)


@every_policy
def test_its_name_makes_it_again(policy: Policy) -> None:
    assert type(make_policy(policy.name)) is type(policy)
