"""Sharing out a batch: whole numbers, within capacities, the best there is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from routers.allocation.assignment import assign, sinkhorn


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 7), st.integers(0, 1000))
def test_of_squares_it_is_the_hungarian_assignment(size: int, seed: int) -> None:
    utility_NN = np.random.default_rng(seed).random((size, size))
    found = assign(utility_NN, np.ones(size, dtype=np.intp))
    rows, columns = linear_sum_assignment(-utility_NN)
    np.testing.assert_array_equal(found.chosen_N[rows], columns)


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 30), st.integers(0, 1000))
def test_capacities_hold_and_prices_explain_every_choice(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    utility_NA = rng.random((count, 3))
    capacity_A = np.array([count // 3, count // 2, count])
    found = assign(utility_NA, capacity_A)
    assert (np.bincount(found.chosen_N, minlength=3) <= capacity_A).all()
    net_NA = utility_NA - found.prices_A
    reached_N = net_NA[np.arange(count), found.chosen_N]
    np.testing.assert_allclose(reached_N, net_NA.max(axis=1), atol=1e-9)
    assert (found.prices_A >= 0).all()


def test_where_there_is_room_for_all_nothing_has_a_price() -> None:
    utility_NA = np.random.default_rng(0).random((20, 3))
    found = assign(utility_NA, np.full(3, 20))
    np.testing.assert_array_equal(found.chosen_N, utility_NA.argmax(axis=1))
    np.testing.assert_array_equal(found.prices_A, 0)
    _, price_A = sinkhorn(utility_NA, np.full(3, 20.0), 0.01)
    np.testing.assert_allclose(price_A, 0)


def test_sinkhorn_keeps_capacities_and_comes_close_to_the_best() -> None:
    utility_NA = np.random.default_rng(0).random((60, 3))
    capacity_A = np.array([10, 20, 60])
    share_NA, _ = sinkhorn(utility_NA, capacity_A.astype(float), 0.01)
    np.testing.assert_allclose(share_NA.sum(axis=1), 1)
    assert (share_NA.sum(axis=0) <= capacity_A + 1e-3).all()
    best = assign(utility_NA, capacity_A).chosen_N
    total = utility_NA[np.arange(60), best].sum()
    assert total - 0.02 * 60 <= (share_NA * utility_NA).sum() <= total + 1e-3


def test_too_little_room_is_refused() -> None:
    with pytest.raises(ValueError, match="5 requests don't fit: all experts together take 4"):
        assign(np.zeros((5, 2)), np.array([2, 2]))
    with pytest.raises(ValueError, match="don't fit"):
        sinkhorn(np.zeros((5, 2)), np.array([2.0, 2.0]), 0.1)
