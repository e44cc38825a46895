"""A chain chosen on held-out folds promises what it keeps, and one chosen by luck does not."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from routers.deferral.chain import Chain, LoggedDrafts, as_good_as, search
from routers.deferral.selection import Goal, select
from routers.errors import TableError

EXPERTS = ("a", "b", "c", "d")
COST = np.geomspace(0.1, 3, 4)
WORLDS = range(20)


def world(count: int, seed: int) -> LoggedDrafts:
    """Dearer experts are right a little more often, and signals are only roughly true."""
    rng = np.random.default_rng(seed)
    hard_N1 = rng.normal(size=(count, 1))
    level_NA = np.linspace(-0.2, 1.6, 4) - 1.2 * hard_N1
    chance_NA = 1 / (1 + np.exp(-level_NA + rng.normal(scale=0.5, size=(count, 4))))
    score_NA = np.where(rng.uniform(size=(count, 4)) < chance_NA, 1.0, 0.0)
    signal_NA = np.clip(chance_NA + rng.normal(scale=0.2, size=(count, 4)), 0, 1)
    cost_NA = COST * rng.lognormal(sigma=0.3, size=(count, 4))
    return LoggedDrafts(EXPERTS, signal_NA, score_NA, cost_NA)


@cache
def everybody() -> LoggedDrafts:
    return world(20_000, 99)


def selected(logged: LoggedDrafts, goal: Goal) -> Chain:
    groups = [str(row) for row in range(len(logged))]
    return select(logged, groups, goal, np.random.default_rng(0), depth=2)


def kept(chains: list[Chain]) -> float:
    """Mean quality on requests that nobody has seen."""
    return float(np.mean([chain.replay(everybody())[0].mean() for chain in chains]))


def promised(chains: list[Chain]) -> float:
    return float(np.mean([chain.quality for chain in chains]))


def test_a_budget_buys_what_is_promised() -> None:
    few = [world(120, seed) for seed in WORLDS]
    goal = Goal(budget_usd=1.0)
    chains = [selected(logged, goal) for logged in few]
    lucky = [chain for logged in few if (chain := goal.pick(search(logged, depth=2)))]
    assert len(lucky) == len(few)
    assert promised(chains) == pytest.approx(kept(chains), abs=0.025)
    assert promised(lucky) > kept(lucky) + 0.04
    assert kept(chains) > kept(lucky) - 0.01
    assert np.mean([chain.replay(everybody())[1].mean() for chain in chains]) < 1.05


def test_a_quality_is_come_nearer_to_than_by_the_rows_themselves() -> None:
    few = [world(120, seed) for seed in WORLDS]
    chains = [selected(logged, Goal(quality=0.72)) for logged in few]
    lucky = [chain for logged in few if (chain := as_good_as(search(logged, depth=2), 0.72))]
    assert abs(kept(chains) - 0.72) < abs(kept(lucky) - 0.72)


def test_only_what_may_be_chosen_is() -> None:
    logged = world(60, 0)
    groups = [str(row) for row in range(60)]
    rng = np.random.default_rng(0)
    chain = select(logged, groups, Goal(budget_usd=2.0), rng, sets=[("b", "d"), ("c", "d")])
    assert chain.experts in {("b", "d"), ("c", "d")}


def test_a_budget_below_the_cheapest_expert_is_refused() -> None:
    with pytest.raises(TableError, match="no chain costs"):
        selected(world(60, 0), Goal(budget_usd=0.01))


def test_where_nothing_can_be_held_out_nothing_is_chosen() -> None:
    logged = world(60, 0)
    with pytest.raises(TableError, match="none can be held out"):
        select(logged, ["one"] * 60, Goal(budget_usd=2.0), np.random.default_rng(0))
