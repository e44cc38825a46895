"""What was expected of a row by a fit that had not seen it owes nothing to its own scores."""

from __future__ import annotations

from dataclasses import replace
from typing import Self

import numpy as np

from routers.estimators.calibrated import CalibratedEstimator
from routers.estimators.folds import group_folds
from routers.records import Estimates, FeatureBatch, OutcomeTable, State
from tests.routers.made_tables import features_of, rng, table_of, unit


class Fixed:
    """Expects of two experts what the vector says, whatever they scored."""

    name = "fixed"

    def fit(self, features: FeatureBatch, table: OutcomeTable, rng: np.random.Generator) -> Self:
        return self

    def predict(self, features: FeatureBatch) -> Estimates:
        quality_NA = np.clip(0.5 + 0.4 * features.vectors_ND[:, :2].astype(np.float64), 0, 1)
        unknown_NA = np.full_like(quality_NA, np.nan)
        return Estimates(("a", "b"), quality_NA, unknown_NA, unknown_NA, unknown_NA)

    def state(self) -> State:
        return {}, {}

    @classmethod
    def from_state(cls, state: State) -> Self:
        return cls()


def test_no_row_that_is_left_out_has_a_part_in_the_curves_that_correct_it() -> None:
    vectors_ND = unit(rng().normal(size=(400, 3)))
    score_NA = (rng().random((400, 2)) < 0.5 + 0.4 * vectors_ND[:, :2]).astype(np.float64)
    features, table = features_of(vectors_ND), table_of(score_NA)
    fold = group_folds(table.groups, 5, rng())[0]
    other_NA = score_NA.copy()
    other_NA[fold] = 1 - other_NA[fold]
    before, after = (
        CalibratedEstimator(Fixed()).fit(features, each, rng()).out_of_fold(each).quality_NA
        for each in (table, replace(table, score_NA=other_NA))
    )
    np.testing.assert_array_equal(before[fold], after[fold])
    # Those of all other rows had seen them.
    rest = np.setdiff1d(np.arange(400), fold)
    assert not np.array_equal(before[rest], after[rest])
