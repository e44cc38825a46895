"""What a candidate is trained on."""

from __future__ import annotations

import numpy as np

from eval.ope.asked import LoggedWishes
from eval.ope.logged import Logged
from eval.promotion.evidence import MOST_WEIGHT, Material
from routers.records import OutcomeTable, Preference


def test_no_outcome_weighs_more_than_the_limit_and_the_log_keeps_its_chances() -> None:
    unknown_NA = np.full((2, 2), np.nan)
    chance_NA = np.array([[0.01, np.nan], [np.nan, 0.99]])
    score_NA = np.array([[1.0, np.nan], [np.nan, 0.0]])
    table = OutcomeTable(
        ("q0", "q1"), ("a", "b"), (None, None), ("q0", "q1"), ("ann", "ben"), score_NA,
        unknown_NA, unknown_NA, unknown_NA, unknown_NA, chance_NA,
    )  # fmt: skip
    material = Material(Logged.of(table), LoggedWishes([Preference()] * 2), None, {})
    trained_NA = material.training().propensity_NA
    np.testing.assert_array_equal(trained_NA, [[1 / MOST_WEIGHT, np.nan], [np.nan, 0.99]])
    np.testing.assert_array_equal(material.logged.table.propensity_NA, chance_NA)
