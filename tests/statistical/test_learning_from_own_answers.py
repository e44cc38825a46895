"""Routers that see one score per request, and what they make of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from eval.simulate import Played, Swap, World, make_linear_world, make_world, play
from routers.base import OnlineEstimator, Policy
from routers.estimators.linucb import LinUcbEstimator
from routers.estimators.online import OnlineHeadsEstimator
from routers.policies.bounds import OptimisticPolicy
from routers.records import OutcomeTable
from routers.registry import make_estimator


def started(name: str, world: World, rows: int, **settings: Any) -> OnlineEstimator:
    """Fitted on every score of the first rows."""
    first = world.take(np.arange(rows))
    fitted = make_estimator(name, **settings).fit(
        first.features, first.table, np.random.default_rng(0)
    )
    assert isinstance(fitted, OnlineEstimator)
    return fitted


def rest(world: World, rows: int) -> World:
    return world.take(np.arange(rows, len(world)))


@pytest.mark.parametrize("name", ["linucb", "thompson"])
def test_regret_grows_ever_slower(name: str) -> None:
    world = make_linear_world(4040, 4, 6, seed=1)
    estimator = started(name, world, 40, penalty=1.0, keep=1.0)
    regret_N = play(
        estimator, rest(world, 40), seed=0, policy=OptimisticPolicy(), batch=10
    ).regret_N
    total_N = np.cumsum(regret_N)
    # √T doubles from one quarter to the whole; a router that learns nothing has four times as much.
    assert total_N[-1] < 2.2 * total_N[999]
    assert regret_N[-1000:].mean() < 0.4 * regret_N[:250].mean()


def before_and_after(played: Played, at: int) -> tuple[float, float]:
    """Mean value of the 500 requests before a change, and of the second 500 after it."""
    before = float(played.value_N[at - 500 : at].mean())
    return before, float(played.value_N[at + 500 : at + 1000].mean())


@pytest.mark.parametrize(
    ("name", "settings"),
    [("online", {}), ("linucb", {"keep": 0.998}), ("thompson", {"keep": 0.998})],
)
def test_it_recovers_from_a_swap_of_two_experts_and_a_frozen_router_does_not(
    name: str, settings: dict[str, Any]
) -> None:
    steady = make_world(3500, 4, 6, seed=0)
    mean_A = steady.truth_NA.mean(axis=0)
    best, worst = int(mean_A.argmax()), int(mean_A.argmin())
    world = make_world(3500, 4, 6, seed=0, drift=[Swap(2500, best, worst)])
    estimator, stream = started(name, world, 500, **settings), rest(world, 500)
    learning = play(estimator, stream, seed=0, epsilon=0.05, batch=10)
    frozen = play(estimator, stream, seed=0, epsilon=0.05, batch=100, learn=False)
    before, after = before_and_after(learning, 2000)
    assert after >= 0.9 * before
    before, after = before_and_after(frozen, 2000)
    assert after < 0.85 * before


def one_hot(table: OutcomeTable) -> OutcomeTable:
    """Only the first of the best experts of each request counts as right."""
    first_N = table.score_NA.argmax(axis=1)
    return replace(table, score_NA=np.eye(len(table.experts))[first_N])


def test_heads_of_their_own_beat_one_right_expert_per_request_where_ties_are_frequent() -> None:
    world = make_world(3000, 5, 6, seed=3)
    ties_N = (world.table.score_NA == world.table.score_NA.max(axis=1, keepdims=True)).sum(axis=1)
    assert (ties_N > 1).mean() > 0.6
    train, test = world.take(np.arange(2000)), rest(world, 2000)
    values = []
    for table in (train.table, one_hot(train.table)):
        heads = OnlineHeadsEstimator().fit(
            train.features.take(np.arange(200)), table.take(np.arange(200)), rng()
        )
        later = np.arange(200, 2000)
        heads = heads.partial_fit(train.features.take(later), table.take(later), rng())
        chosen_N = heads.predict(test.features).quality_NA.argmax(axis=1)
        values.append(float(test.truth_NA[np.arange(1000), chosen_N].mean()))
    assert values[0] > values[1] + 0.03


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_asking_who_is_little_known_finds_a_better_newcomer() -> None:
    world = make_world(1600, 3, 4, seed=4)
    # The third column is best everywhere, but failed both times that it was asked before.
    truth_NA = np.column_stack([world.truth_NA[:, :2], np.full(1600, 0.95)])
    score_NA = (np.random.default_rng(5).random(truth_NA.shape) < truth_NA).astype(np.float64)
    known_NA = score_NA.copy()
    known_NA[2:100, 2] = np.nan
    known_NA[:2, 2] = 0.0
    first = replace(world.table, score_NA=known_NA).take(np.arange(100))
    fitted = LinUcbEstimator().fit(world.features.take(np.arange(100)), first, rng())
    stream = rest(World(world.features, replace(world.table, score_NA=score_NA), truth_NA), 100)
    policies: list[Policy | None] = [OptimisticPolicy(2.0), None]
    shares = [
        float((play(fitted, stream, seed=0, policy=policy, batch=5).chosen_N[-500:] == 2).mean())
        for policy in policies
    ]
    assert shares[0] > 0.9
    assert shares[1] < 0.1
