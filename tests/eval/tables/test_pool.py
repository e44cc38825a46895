from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from eval.errors import ComparisonError
from eval.tables.pool import make_pool
from experts.cards import Prices
from routers.records import OutcomeTable

MakeTable = Callable[..., OutcomeTable]
SCORES = np.ones((4, 3))


def costs(*per_expert: float) -> list[list[float]]:
    return [list(per_expert)] * 4


def test_experts_of_one_side_only_are_left_out_and_named(make_table: MakeTable) -> None:
    train = make_table(SCORES, experts=["a", "b", "c"])
    test = make_table(SCORES, experts=["b", "c", "d"])
    pool = make_pool(train, test, None)
    assert pool.train.experts == pool.test.experts == ("b", "c")
    assert pool.left_out == {
        "a": "has no score on the test side",
        "d": "has no score on the training side",
    }
    assert any("has no score on the test side: a" in note for note in pool.notes)


def test_an_expert_without_costs_is_left_out_where_most_have_some(make_table: MakeTable) -> None:
    table = make_table(SCORES, costs=costs(1.0, 2.0, np.nan))
    pool = make_pool(table, table, None)
    assert pool.costs_known
    assert pool.train.experts == ("a", "b")
    assert pool.left_out == {"c": "has no known cost"}


def test_all_stay_and_costs_go_where_most_are_unknown(make_table: MakeTable) -> None:
    table = make_table(SCORES, costs=costs(1.0, np.nan, np.nan))
    pool = make_pool(table, table, None)
    assert not pool.costs_known
    assert pool.train.experts == ("a", "b", "c")
    assert np.isnan(pool.test.cost_usd_NA).all()
    assert pool.prices == {"a": None, "b": None, "c": None}
    assert any("only quality is compared" in note for note in pool.notes)


def test_a_price_list_brings_experts_back(make_table: MakeTable) -> None:
    tokens = np.full((4, 3), 1e6), np.full((4, 3), 1e6)
    table = make_table(SCORES, costs=costs(3.0, 5.0, np.nan), tokens=tokens)
    pool = make_pool(table, table, {"c": Prices(1.0, 1.0)})
    assert pool.train.experts == ("a", "b", "c")
    assert pool.test.cost_usd_NA[:, 2].tolist() == [2.0] * 4
    assert pool.test.cost_usd_NA[:, 0].tolist() == [3.0] * 4
    assert pool.prices["c"] == Prices(1.0, 1.0)


def test_given_prices_go_before_fitted_ones(make_table: MakeTable) -> None:
    tokens = np.full((4, 3), 1e6), np.full((4, 3), 1e6)
    table = make_table(SCORES, costs=costs(2.0, 4.0, 6.0), tokens=tokens)
    pool = make_pool(table, table, {"a": Prices(9.0, 9.0)})
    assert pool.prices["a"] == Prices(9.0, 9.0)
    fitted = pool.prices["b"]
    assert fitted is not None
    assert fitted.input + fitted.output == pytest.approx(4.0)


def test_one_expert_is_no_pool(make_table: MakeTable) -> None:
    train = make_table(np.ones((2, 1)), experts=["a"])
    with pytest.raises(ComparisonError, match="two experts scored on both sides; found a"):
        make_pool(train, train, None)
    other = make_table(np.ones((2, 1)), experts=["b"])
    with pytest.raises(ComparisonError, match="found none"):
        make_pool(train, other, None)
