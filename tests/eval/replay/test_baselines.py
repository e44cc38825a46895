from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from eval.replay.baselines import (
    length_choice,
    oracle_choice,
    random_choice,
    single,
    singles,
    task_choice,
    task_means,
)
from eval.replay.replay import measure
from routers.records import OutcomeTable

MakeTable = Callable[..., OutcomeTable]


def test_the_best_single_expert_is_the_cheaper_of_equals(make_table: MakeTable) -> None:
    table = make_table([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]], costs=[[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
    found = singles(table)
    assert (found.best, found.cheapest, found.pair) == (1, 2, (2, 1))


def test_without_costs_nobody_is_cheapest(make_table: MakeTable) -> None:
    found = singles(make_table([[1.0, 0.5], [0.9, 0.2]]))
    assert found.cheapest is None
    assert found.pair == (1, 0)


def test_an_expert_seen_on_few_questions_is_not_the_best(make_table: MakeTable) -> None:
    scores = np.full((10, 2), 0.6)
    scores[:, 1] = np.nan
    scores[0, 1] = 1.0
    found = singles(make_table(scores))
    assert found.best == 0
    assert np.isnan(found.quality_A[1])


def test_logged_experts_are_judged_by_their_propensities(make_table: MakeTable) -> None:
    scores = [[1.0, np.nan], [0.0, np.nan], [np.nan, 0.4], [np.nan, 0.4]]
    propensity = np.array([[0.25, 0.75], [0.75, 0.25], [0.5, 0.5], [0.5, 0.5]])
    found = singles(make_table(scores, propensity=propensity))
    assert found.quality_A == pytest.approx([4 / (4 + 4 / 3), 0.4])


def test_nothing_observed_is_refused(make_table: MakeTable) -> None:
    with pytest.raises(ValueError, match="no score"):
        singles(make_table([[np.nan, np.nan]]))


def test_random_gives_everybody_the_same(make_table: MakeTable) -> None:
    table = make_table([[1.0, 0.0, 0.5, 0.1]])
    assert_array_equal(random_choice(table), [[0.25] * 4])
    assert measure(table, random_choice(table)).quality == pytest.approx(0.4)


def test_the_task_label_chooses_what_was_best_in_training(make_table: MakeTable) -> None:
    train = make_table(
        [[1.0, 0.0], [1.0, 0.0], [0.0, 0.5], [0.2, 0.9]],
        costs=[[1.0, 4.0]] * 4,
        tasks=["maths", "maths", "law", "law"],
    )
    test = make_table([[0.0, 1.0]] * 4, tasks=["law", "maths", "art", None])
    means = task_means(train)
    assert task_choice(means, test, fallback=1).argmax(axis=1).tolist() == [1, 0, 1, 1]
    dear = task_choice(means, test, fallback=1, cost_weight=5.0)
    assert dear.argmax(axis=1).tolist() == [0, 0, 1, 1]


def test_longer_prompts_go_to_the_stronger_expert(make_table: MakeTable) -> None:
    train = make_table([[1.0, 1.0]] * 4, prompts=["x" * 10, "x" * 20, "x" * 30, "x" * 40])
    test = make_table([[1.0, 1.0]] * 3, prompts=["x" * 5, "x" * 36, "x" * 400])
    assert length_choice(train, test, (1, 0), 0.5).argmax(axis=1).tolist() == [1, 0, 0]
    assert length_choice(train, test, (1, 0), 0.0).argmax(axis=1).tolist() == [1, 1, 1]
    assert length_choice(train, test, (1, 0), 1.0).argmax(axis=1).tolist() == [0, 0, 0]


def test_the_oracle_takes_the_cheapest_of_the_best(make_table: MakeTable) -> None:
    table = make_table(
        [[1.0, 1.0, 0.0], [0.0, 0.5, np.nan], [0.0, 0.0, 0.0]],
        costs=[[3.0, 2.0, 1.0], [1.0, 9.0, 0.1], [3.0, np.nan, 4.0]],
    )
    assert oracle_choice(table).argmax(axis=1).tolist() == [1, 1, 0]


def test_the_oracle_needs_no_costs(make_table: MakeTable) -> None:
    table = make_table([[0.0, 1.0, 0.5], [0.9, 0.1, np.nan], [np.nan, np.nan, np.nan]])
    traffic = measure(table, oracle_choice(table))
    assert traffic.quality == pytest.approx(0.95)
    assert traffic.unobserved == 1


@given(
    st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=1, max_size=20),
    st.floats(0, 10),
)
def test_nobody_beats_the_oracle(scores: list[list[float]], cost_weight: float) -> None:
    table = _table(np.array(scores))
    oracle = measure(table, oracle_choice(table)).quality
    for column in range(3):
        assert measure(table, single(table, column)).quality <= oracle + 1e-12
    thrifty = measure(table, oracle_choice(table, cost_weight))
    assert thrifty.quality <= oracle + 1e-12
    assert thrifty.cost_usd <= measure(table, oracle_choice(table)).cost_usd + 1e-12


def _table(scores: np.ndarray) -> OutcomeTable:
    ids = tuple(map(str, range(len(scores))))
    unknown = np.full(scores.shape, np.nan)
    costs = np.tile([1.0, 2.0, 4.0], (len(scores), 1))
    ones = np.ones(scores.shape)
    return OutcomeTable(
        ids, ids, (None,) * len(ids), ids, ("a", "b", "c"), scores, unknown, unknown, costs,
        unknown, ones,
    )  # fmt: skip
