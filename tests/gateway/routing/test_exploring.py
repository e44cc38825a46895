"""Exploring: what it may cost, and requests on which nothing is tried."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from experts.cards import ExpertCard, Prices
from experts.messages import ChatRequest, Message
from gateway.routing.exploring import Exploration, extra_usd
from routers.eligible import Constraints
from routers.records import Decision, Preference
from routers.router import untrained_router

CARDS = (
    ExpertCard("cheap", prices=Prices(1, 1), quality_prior=0.9),
    ExpertCard("dear", prices=Prices(9, 9), quality_prior=0.5),
)
DAY_S = 86_400.0


def decided(*, explore: bool = True, epsilon: float = 0.5) -> Decision:
    return untrained_router("default", epsilon).decide(
        ChatRequest((Message("user", "hello"),), max_tokens=1000),
        CARDS,
        preference=Preference(),
        policy_name="best",
        constraints=Constraints(),
        unhealthy={},
        uniform=0.99,
        explore=explore,
    )


def test_without_exploration_the_likeliest_answers_with_certainty() -> None:
    assert decided().expert == "dear"
    certain = decided(explore=False)
    assert (certain.expert, certain.propensity) == ("cheap", 1.0)
    np.testing.assert_array_equal(certain.probabilities_A, [1.0, 0.0])
    assert "unexplored" in certain.flags


def test_exploring_costs_what_the_distribution_adds_to_the_likeliest() -> None:
    found = decided(epsilon=0.5)
    cheap, dear = found.candidates.cost_usd_A
    assert extra_usd(found) == pytest.approx(0.25 * (dear - cheap))
    assert extra_usd(decided(explore=False)) == 0


def test_an_unknown_price_counts_as_the_dearest() -> None:
    found = decided()
    cost_A = np.array([found.candidates.cost_usd_A[0], np.nan])
    unknown = replace(found, candidates=replace(found.candidates, cost_usd_A=cost_A))
    scale = found.candidates.cost_scale_usd
    assert extra_usd(unknown) == pytest.approx(0.25 * (scale - cost_A[0]))


def test_a_budget_ends_exploration_until_the_next_day() -> None:
    found, at = decided(), [0.0]
    exploration = Exploration(2.5 * extra_usd(found), clock=lambda: at[0])
    told: list[object] = []
    explored = 0
    while exploration.allowed:
        exploration.behind(told.append)(found)
        explored += 1
    assert explored == 3
    assert told == [found] * 3
    at[0] = DAY_S - 1
    assert not exploration.allowed
    at[0] = DAY_S
    assert exploration.allowed
    assert exploration.spent_usd == 0


def test_without_a_budget_nothing_is_counted() -> None:
    exploration = Exploration(None)
    assert exploration.behind(print) is print
    assert exploration.allowed
