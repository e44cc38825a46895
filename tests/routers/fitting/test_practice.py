"""Queries to choose a policy's parameters on, where not everybody was asked."""

from __future__ import annotations

import numpy as np
import pytest

from routers.fitting.practice import Practice
from routers.records import Candidates, Floats

EXPECTED_A = np.array([0.5, 0.8])


def practice(score_NA: Floats, chance_NA: Floats) -> Practice:
    unknown_A = np.full(2, np.nan)
    query = Candidates(
        ("a", "b"), EXPECTED_A, np.zeros(2), np.array([1.0, np.nan]), unknown_A, unknown_A,
        np.zeros(2), 1.0, 1.0,
    )  # fmt: skip
    return Practice((query,) * len(score_NA), score_NA, np.full_like(score_NA, np.nan), chance_NA)


def test_the_mean_of_what_few_were_asked_for_is_that_of_all() -> None:
    rng = np.random.default_rng(0)
    score_NA = (rng.random((4000, 2)) < [0.3, 0.9]).astype(np.float64)
    asked_NA = rng.random((4000, 2)) < [0.2, 0.7]
    found = practice(np.where(asked_NA, score_NA, np.nan), np.tile([0.2, 0.7], (4000, 1))).value
    assert found.mean(axis=0) == pytest.approx([0.3, 0.9], abs=0.05)


def test_one_answer_stands_for_as_many_as_its_chance_says_within_bounds() -> None:
    score_NA = np.array([[1.0, np.nan], [np.nan, 0.0], [1.0, 0.6]])
    chance_NA = np.array([[0.25, np.nan], [np.nan, 0.5], [1.0, 1e-9]])
    found = practice(score_NA, chance_NA).value
    assert found[0].tolist() == [0.5 + 0.5 / 0.25, 0.8]
    assert found[1].tolist() == [0.5, 0.8 - 0.8 / 0.5]
    # What was all but impossible does not drown everything else.
    assert found[2].tolist() == [1.0, pytest.approx(0.8 - 0.2 * 50)]


def test_what_nobody_paid_yet_costs_what_is_expected() -> None:
    assert practice(np.ones((1, 2)), np.ones((1, 2))).spend.tolist() == [[1.0, 1.0]]
