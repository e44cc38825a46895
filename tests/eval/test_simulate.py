"""Simulated streams: what they show to a learner, and what they keep from it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from eval.simulate import Swap, World, make_linear_world, make_world, play, revealed
from routers.base import OnlineEstimator
from routers.estimators.linucb import LinUcbEstimator
from routers.policies.greedy import GreedyUtilityPolicy
from routers.policies.uniform import UniformPolicy
from routers.records import Candidates, Floats, Preference


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def started(world: World, rows: int = 50) -> OnlineEstimator:
    first = world.take(np.arange(rows))
    return LinUcbEstimator().fit(first.features, first.table, rng())


def test_scores_come_as_often_as_the_truth_says() -> None:
    world = make_world(20_000, 3, 4, seed=1)
    for task in range(4):
        of_task = np.array([name == f"task-{task}" for name in world.table.tasks])
        error_A = world.table.score_NA[of_task].mean(axis=0) - world.truth_NA[of_task].mean(axis=0)
        assert np.abs(error_A).max() < 4 * 0.5 / np.sqrt(of_task.sum())


def test_a_swap_exchanges_two_experts_from_then_on() -> None:
    before, after = (
        make_world(100, 3, 4, seed=2, drift=drift).truth_NA for drift in ((), (Swap(60, 0, 2),))
    )
    np.testing.assert_array_equal(after[:60], before[:60])
    np.testing.assert_array_equal(after[60:], before[60:][:, [2, 1, 0]])


def test_a_linear_world_stays_within_bounds() -> None:
    truth_NA = make_linear_world(500, 4, 8, seed=3).truth_NA
    assert 0.1 <= truth_NA.min() < 0.35
    assert 0.65 < truth_NA.max() <= 0.9


def test_only_the_answer_that_was_given_is_shown() -> None:
    table = make_world(4, 3, 2, seed=4).table
    shown = revealed(table, np.array([2, 0, 1, 1]), np.array([0.5, 0.9, 0.1, 1.0]))
    seen = [(0, 2), (1, 0), (2, 1), (3, 1)]
    assert np.argwhere(~np.isnan(shown.score_NA)).tolist() == [list(cell) for cell in seen]
    assert [shown.score_NA[cell] for cell in seen] == [table.score_NA[cell] for cell in seen]
    assert [shown.propensity_NA[cell] for cell in seen] == [0.5, 0.9, 0.1, 1.0]


def test_a_hidden_score_changes_nothing() -> None:
    world = make_world(300, 3, 3, seed=5)
    played = play(started(world), world, seed=0, epsilon=0.2, batch=7)
    score_NA = world.table.score_NA.copy()
    hidden_NA = np.ones(score_NA.shape, dtype=bool)
    hidden_NA[np.arange(300), played.chosen_N] = False
    score_NA[hidden_NA] = 1 - score_NA[hidden_NA]
    other = World(world.features, replace(world.table, score_NA=score_NA), world.truth_NA)
    again = play(started(world), other, seed=0, epsilon=0.2, batch=7)
    np.testing.assert_array_equal(again.chosen_N, played.chosen_N)


def test_it_is_chosen_as_often_as_the_propensities_say() -> None:
    world = make_world(4000, 3, 3, seed=6)
    played = play(started(world), world, seed=0, epsilon=0.3, batch=50, learn=False)
    explored = played.propensity_N < 0.5
    assert set(np.round(played.propensity_N, 9)) == {0.1, 0.8}
    assert explored.mean() == pytest.approx(0.2, abs=4 * np.sqrt(0.2 * 0.8 / 4000))


def test_a_frozen_router_ends_as_it_began() -> None:
    world = make_world(100, 3, 3, seed=7)
    estimator = started(world)
    assert play(estimator, world, seed=0, learn=False).estimator is estimator
    assert play(estimator, world, seed=0, batch=10).estimator is not estimator


def test_regret_is_what_the_best_could_expect_more() -> None:
    world = make_world(200, 4, 3, seed=8)
    played = play(started(world), world, seed=0, policy=UniformPolicy(), learn=False)
    assert (played.regret_N >= 0).all()
    np.testing.assert_allclose(played.regret_N + played.value_N, world.truth_NA.max(axis=1))


@dataclass(frozen=True)
class Thrifty:
    """Greedy, and remembers what was paid."""

    name = "thrifty"
    paid: list[float] = field(default_factory=list)

    def distribution(self, candidates: Candidates, preference: Preference) -> tuple[Floats, Floats]:
        return GreedyUtilityPolicy().distribution(candidates, preference)

    def observe(self, cost_usd: float) -> None:
        self.paid.append(cost_usd)


def test_costs_are_weighed_and_told_to_a_policy_that_listens() -> None:
    world = make_world(60, 3, 3, seed=9)
    cost_NA = np.full((60, 3), [0.001, 0.01, 0.1])
    priced = World(world.features, replace(world.table, cost_usd_NA=cost_NA), world.truth_NA)
    policy = Thrifty()
    played = play(
        started(world), priced, seed=0, policy=policy, preference=Preference(cost_weight=100.0)
    )
    assert set(played.chosen_N) == {0}
    assert policy.paid == [0.001] * 60
