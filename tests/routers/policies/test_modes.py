"""Slow modes of a model are chosen where its instant one fails, and pay for themselves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routers.policies.greedy import GreedyUtilityPolicy
from routers.policies.modes import ModesPolicy, adaptive_reward
from routers.records import Candidates, Floats, Preference

MODES = {"m@think": "m"}
BEST = Preference()


def pool(instant: float, think: float, *, other: float = 0.0) -> Candidates:
    zeros_A = np.zeros(3)
    return Candidates(
        experts=("m", "m@think", "other"),
        quality_A=np.array([instant, think, other]),
        stderr_A=zeros_A,
        cost_usd_A=np.array([1.0, 10.0, 20.0]),
        latency_s_A=zeros_A,
        output_tokens_A=zeros_A,
        penalty_A=zeros_A,
        cost_scale_usd=20.0,
        latency_scale_s=1.0,
    )


def chosen(candidates: Candidates, preference: Preference = BEST) -> str:
    probabilities_A, _ = ModesPolicy(MODES).distribution(candidates, preference)
    return candidates.experts[int(probabilities_A.argmax())]


@settings(deadline=None)
@given(st.floats(0, 1))
def test_where_the_instant_mode_works_no_other_is_asked(think: float) -> None:
    assert chosen(pool(1.0, think)) == "m"


@settings(deadline=None)
@given(st.floats(0.001, 1))
def test_where_it_never_works_whatever_is_gained_counts(think: float) -> None:
    assert chosen(pool(0.0, think)) == "m@think"
    assert chosen(pool(0.0, 0.0)) == "m"


def test_other_models_are_taken_as_they_are() -> None:
    assert chosen(pool(0.9, 1.0, other=0.95)) == "other"
    assert chosen(pool(0.3, 0.9, other=0.7)) == "m@think"


def test_the_floor_is_about_quality_itself() -> None:
    """Of two experts at 70 %, one in a slow mode, both reach a floor of 60 %."""
    _, utility_A = ModesPolicy(MODES).distribution(pool(0.5, 0.7), BEST)
    assert utility_A[1] == pytest.approx(0.7 * 0.75)
    assert chosen(pool(0.5, 0.7), Preference(min_quality=0.6)) == "m@think"


def test_a_right_answer_gets_cheaper_for_less_than_a_point_of_quality() -> None:
    """Questions of which most are easy or hard for the instant mode: a twentieth lie in between."""
    rng = np.random.default_rng(0)
    instant_N = np.where(rng.random(4000) < 0.6, rng.beta(100, 1, 4000), rng.beta(1, 20, 4000))
    between_N = rng.random(4000) < 0.05
    instant_N[between_N] = rng.uniform(0.2, 0.8, between_N.sum())
    think_N = instant_N + (1 - instant_N) * 0.6
    costs_A = np.array([1.0, 10.0])

    def outcome(policy: GreedyUtilityPolicy | ModesPolicy) -> tuple[float, float]:
        picks_N = np.array(
            [
                int(policy.distribution(pool(p, q), BEST)[0].argmax())
                for p, q in zip(instant_N, think_N, strict=True)
            ]
        )
        quality_N: Floats = np.where(picks_N == 0, instant_N, think_N)
        right = float(quality_N.mean())
        return right, float(costs_A[picks_N].sum() / quality_N.sum())

    accuracy, cost_of_pass = outcome(GreedyUtilityPolicy())
    kept, cheaper = outcome(ModesPolicy(MODES))
    assert accuracy - kept <= 0.01
    assert cheaper < 0.6 * cost_of_pass


@settings(deadline=None)
@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_the_reward_is_within_the_score_and_falls_with_what_works(
    score: float, low: float, high: float
) -> None:
    low, high = sorted((low, high))
    less, more = adaptive_reward(np.array([score, score]), np.array([high, low]))
    assert 0 <= less <= more <= score


def test_a_power_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="> 0"):
        ModesPolicy(MODES, power=0)
