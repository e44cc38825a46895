from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from eval.metrics.calibration import calibration

UNIT = st.floats(0, 1)


def test_by_hand() -> None:
    predicted = np.array([0.15, 0.15, 0.85, 0.85])
    found = calibration(predicted, np.array([0.0, 1.0, 1.0, 1.0]))
    assert found is not None
    assert found.ece == pytest.approx(0.5 * abs(0.5 - 0.15) + 0.5 * abs(1 - 0.85))
    brier = (0.15**2 + 0.85**2 + 0.15**2 + 0.15**2) / 4
    assert found.brier == pytest.approx(brier)
    assert found.skill == pytest.approx(1 - brier / (0.75 * 0.25))
    assert [b.predicted for b in found.bins] == pytest.approx([0.15, 0.85])
    assert [(b.observed, b.count) for b in found.bins] == [(0.5, 2), (1.0, 2)]


def test_truth_is_calibrated_and_has_full_skill() -> None:
    scores = np.array([0.0, 1.0, 0.5, 1.0])
    found = calibration(scores, scores)
    assert found is not None
    assert (found.ece, found.ece_mass, found.brier, found.skill) == (0, 0, 0, 1)


def test_the_mean_score_has_no_skill() -> None:
    scores = np.array([0.0, 1.0, 1.0, 1.0])
    found = calibration(np.full(4, 0.75), scores)
    assert found is not None
    assert found.ece == 0
    assert found.skill == pytest.approx(0)


def test_unknown_cells_are_left_out() -> None:
    known = calibration(np.array([0.2, 0.9]), np.array([0.0, 1.0]))
    holes = calibration(
        np.array([[0.2, 0.9], [np.nan, 0.1]]), np.array([[0.0, 1.0], [1.0, np.nan]])
    )
    assert known == holes
    assert calibration(np.array([np.nan]), np.array([1.0])) is None


def test_equal_scores_have_no_skill_to_speak_of() -> None:
    found = calibration(np.array([0.5, 0.6]), np.array([1.0, 1.0]))
    assert found is not None
    assert np.isnan(found.skill)


@given(arrays(np.float64, 30, elements=UNIT), arrays(np.float64, 30, elements=UNIT))
def test_figures_stay_within_their_bounds(predicted: np.ndarray, scores: np.ndarray) -> None:
    found = calibration(predicted, scores)
    assert found is not None
    assert 0 <= found.ece <= 1
    assert 0 <= found.ece_mass <= 1
    assert 0 <= found.brier <= 1
    assert sum(b.count for b in found.bins) == 30
    bias = abs(predicted.mean() - scores.mean())
    assert found.ece >= bias - 1e-9
    assert found.ece_mass >= bias - 1e-9


def test_certainty_belongs_to_the_last_bin() -> None:
    found = calibration(np.array([0.95, 1.0]), np.array([1.0, 1.0]))
    assert found is not None
    assert [b.count for b in found.bins] == [2]
