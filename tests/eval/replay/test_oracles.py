from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import linprog

from eval.replay.oracles import budget_frontier, hindsight_choice, recall_table
from routers.records import OutcomeTable

MakeTable = Callable[..., OutcomeTable]
NAN = float("nan")


def by_linear_program(table: OutcomeTable, budget: float) -> float:
    """The same by a general solver: one variable per cell, one equation per query."""
    score, cost = table.score_NA.ravel(), table.cost_usd_NA.ravel()
    count, experts = table.score_NA.shape
    each = np.kron(np.eye(count), np.ones(experts))
    solved = linprog(-score, A_ub=[cost], b_ub=[budget * count], A_eq=each, b_eq=np.ones(count))
    return float(-solved.fun / count)


def test_the_budgeted_oracle_is_the_linear_program(make_table: MakeTable) -> None:
    rng = np.random.default_rng(0)
    table = make_table(rng.random((12, 4)).round(1), costs=rng.random((12, 4)))
    frontier = budget_frontier(table)
    cheapest = float(table.cost_usd_NA.min(axis=1).mean())
    budgets = np.array([cheapest, 0.3, 0.35, 0.5, 2.0])
    expected = [by_linear_program(table, budget + 1e-9) for budget in budgets]
    assert_allclose(frontier.quality_at(budgets), expected, atol=1e-6)
    assert_allclose(frontier.quality_at(np.array([2.0])), table.score_NA.max(axis=1).mean())
    assert np.isnan(frontier.quality_at(np.array([cheapest / 2]))).all()


def test_weights_count_queries_as_often(make_table: MakeTable) -> None:
    rng = np.random.default_rng(1)
    score, cost = rng.random((5, 3)), rng.random((5, 3))
    often = [0, 0, 0, 2, 4, 4]
    weights_N = np.bincount(often, minlength=5).astype(float)
    drawn = budget_frontier(make_table(score[often], costs=cost[often]))
    weighted = budget_frontier(make_table(score, costs=cost))
    budgets = np.array([0.4, 0.6, 1.0])
    assert_allclose(weighted.quality_at(budgets, weights_N), drawn.quality_at(budgets))


def test_what_is_unknown_takes_no_part(make_table: MakeTable) -> None:
    score, cost = np.array([[0.0, 1.0], [NAN, NAN]]), np.array([[1.0, NAN], [1.0, 2.0]])
    frontier = budget_frontier(make_table(score, costs=cost))
    assert frontier.quality_at(np.array([1.0, 9.0])).tolist() == [0.0, 0.0]
    unknown = budget_frontier(make_table(score, costs=np.full((2, 2), NAN)))
    assert np.isnan(unknown.quality_at(np.array([1.0]))).all()


def test_hindsight_takes_the_best_of_each_task(make_table: MakeTable) -> None:
    score = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    table = make_table(score, tasks=["sum", "sum", "poem", "poem", None])
    chosen = hindsight_choice(table, fallback=1)
    assert chosen is not None
    assert_array_equal(chosen.argmax(axis=1), [0, 0, 1, 1, 1])
    assert hindsight_choice(make_table(score, tasks=[None] * 5), fallback=0) is None


def test_one_lucky_answer_does_not_win_a_task(make_table: MakeTable) -> None:
    score = np.array([[1.0, 1.0], [1.0, NAN], [0.0, NAN], [1.0, NAN]])
    chosen = hindsight_choice(make_table(score, tasks=["sum"] * 4), fallback=1)
    assert chosen is not None
    assert chosen[:, 0].all()


def test_recall_by_how_many_are_right(make_table: MakeTable) -> None:
    score = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 1.0, NAN], [1.0, 1.0, 0.0]])
    rows = {row.band: row for row in recall_table(make_table(score), np.array([0, 1, 2, 0]))}
    assert {band: row.count for band, row in rows.items() if row.count} == {
        "none": 1,
        "a quarter to half": 1,
        "half to three quarters": 1,
        "all": 1,
    }
    assert rows["none"].quality == 0
    assert rows["a quarter to half"].quality == 0
    assert rows["a quarter to half"].random == pytest.approx(1 / 3)
    assert np.isnan(rows["all"].quality)
    assert rows["half to three quarters"].quality == 1
