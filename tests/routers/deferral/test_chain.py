"""FrugalGPT's search finds the planted chain, keeps its budget and never does worse than one."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from routers.deferral.chain import Chain, LoggedDrafts, as_good_as, search
from routers.deferral.selection import Goal
from routers.deferral.threshold import DeferralThreshold
from routers.errors import TableError


def planted(count: int = 2000, seed: int = 0) -> LoggedDrafts:
    """A cheap expert with a telling signal, one whose signal says nothing, and a dear one."""
    rng = np.random.default_rng(seed)
    chance_N3 = np.stack([rng.uniform(size=count), np.full(count, 0.7), np.full(count, 0.95)], 1)
    score_NA = (rng.uniform(size=(count, 3)) < chance_N3).astype(np.float64)
    signal_NA = np.stack([chance_N3[:, 0], rng.uniform(size=count), rng.uniform(size=count)], 1)
    cost_NA = np.tile([0.1, 1.0, 3.0], (count, 1)) * rng.uniform(0.8, 1.2, size=(count, 3))
    return LoggedDrafts(("cheap", "mute", "dear"), signal_NA, score_NA, cost_NA)


def test_the_planted_chain_is_found_and_holds_on_new_requests() -> None:
    best = as_good_as(search(planted()), 0.9)
    assert best is not None
    assert best.experts == ("cheap", "dear")
    # Cheap drafts below p lose .95 − p; half of the dear expert's cost is saved at .9.
    score_N, cost_N = best.replay(planted(20_000, 1))
    assert score_N.mean() == pytest.approx(0.9, abs=0.015)
    assert cost_N.mean() < 0.75 * 3.0


@pytest.mark.parametrize("budget", [0.2, 1.0, 2.0])
def test_budgets_are_met_where_it_was_searched(budget: float) -> None:
    logged = planted()
    chain = Goal(budget).pick(search(logged))
    assert chain is not None
    score_N, cost_N = chain.replay(logged)
    assert cost_N.mean() <= budget + 1e-9
    assert cost_N.mean() == pytest.approx(chain.cost_usd)
    assert score_N.mean() == pytest.approx(chain.quality)


def test_no_chain_costs_less_than_the_cheapest() -> None:
    assert Goal(0.01).pick(search(planted())) is None


def test_with_all_thresholds_on_the_grid_it_is_what_trying_everything_finds() -> None:
    """Every pair and triple, every threshold, on few requests."""
    logged = planted(25, 3)
    found = search(logged, grid=200)
    order = np.argsort(logged.cost_usd_NA.mean(axis=0)).tolist()
    best: list[tuple[float, float]] = []
    for length in (1, 2, 3):
        for columns in combinations(order, length):
            names = tuple(logged.experts[column] for column in columns)
            levels = [sorted(set(logged.signal_NA[:, c].tolist())) for c in columns[:-1]]
            grids = [[DeferralThreshold(level, 1.0) for level in each] for each in levels]
            choices: list[tuple[DeferralThreshold, ...]] = [()]
            for grid in grids:
                choices = [(*one, threshold) for one in choices for threshold in grid]
            for thresholds in choices:
                score_N, cost_N = Chain(names, thresholds, 0, 0).replay(logged)
                best.append((float(cost_N.mean()), float(score_N.mean())))
    for cost, quality in best:
        assert any(c.cost_usd <= cost + 1e-9 and c.quality >= quality - 1e-9 for c in found)


def test_it_is_never_worse_than_a_single_expert() -> None:
    logged = planted()
    chains = search(logged)
    for column in range(3):
        budget = float(logged.cost_usd_NA[:, column].mean())
        single = float(logged.score_NA[:, column].mean())
        best = Goal(budget).pick(chains)
        assert best is not None
        assert best.quality >= single - 1e-12


def test_an_unknown_outcome_is_refused() -> None:
    logged = planted(30)
    logged.score_NA[3, 1] = np.nan
    with pytest.raises(TableError, match="leave the others out"):
        LoggedDrafts(logged.experts, logged.signal_NA, logged.score_NA, logged.cost_usd_NA)
