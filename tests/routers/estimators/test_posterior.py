"""Weighted rows tell as much as the even ones that they are worth, and fade as they get old."""

from __future__ import annotations

import numpy as np

from routers.estimators.posterior import LinearSums
from routers.records import Floats
from tests.routers.made_tables import rng

PRIOR_P, PRECISION_P = np.array([0.0, 0.5]), np.array([10.0, 1.0])


def rows(count: int) -> tuple[Floats, Floats]:
    design_NP = np.column_stack([rng().normal(size=count), np.ones(count)])
    return design_NP, (rng().random((count, 1)) < 0.4 + 0.2 * design_NP[:, :1]).astype(np.float64)


def sums(design_NP: Floats, score_N1: Floats, weight_N1: Floats, keep: float = 1.0) -> LinearSums:
    return LinearSums.empty(1, 2).add(design_NP, score_N1, weight_N1, keep)


def test_rows_that_weigh_four_times_as_much_tell_no_more() -> None:
    design_NP, score_N1 = rows(60)
    found = [
        sums(design_NP, score_N1, np.full((60, 1), weight)).posterior(PRIOR_P, PRECISION_P)
        for weight in (1.0, 4.0)
    ]
    (quality_N, stderr_N), (same_N, as_sure_N) = (each.predict(design_NP) for each in found)
    np.testing.assert_allclose(same_N, quality_N)
    np.testing.assert_allclose(as_sure_N, stderr_N)


def test_unequal_rows_are_worth_fewer() -> None:
    design_NP, score_N1 = rows(60)
    weight_N1 = np.where(np.arange(60) % 3 == 0, 10.0, 1.0)[:, None]
    found = sums(design_NP, score_N1, weight_N1)
    worth = float(found.worth_A[0] * found.mass_A[0])
    # After Kish: (Σ w)² / Σ w².
    np.testing.assert_allclose(worth, weight_N1.sum() ** 2 / (weight_N1**2).sum())


def test_batches_teach_what_their_rows_teach_one_by_one_and_fade_alike() -> None:
    design_NP, score_N1 = rows(30)
    weight_N1 = 1 + rng().random((30, 1))
    at_once = sums(design_NP, score_N1, weight_N1, keep=0.9)
    one_by_one = LinearSums.empty(1, 2)
    for row in range(30):
        place = slice(row, row + 1)
        one_by_one = one_by_one.add(design_NP[place], score_N1[place], weight_N1[place], 0.9)
    for name, values in at_once.arrays().items():
        np.testing.assert_allclose(values, one_by_one.arrays()[name], err_msg=name)
    assert at_once.mass_A[0] < 0.6 * sums(design_NP, score_N1, weight_N1).mass_A[0]
