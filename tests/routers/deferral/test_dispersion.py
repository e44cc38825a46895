"""Mowst's confidence: 1 for a certain answer, 0 for a uniform one, monotone between."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from routers.deferral.dispersion import entropy_confidence, gated_quality, variance_confidence
from routers.deferral.threshold import Threshold
from routers.records import Floats

Confidence = Callable[..., Floats]
both = pytest.mark.parametrize("confidence", [variance_confidence, entropy_confidence])


@both
@pytest.mark.parametrize("count", [2, 3, 10])
@pytest.mark.parametrize("power", [0.5, 1.0, 3.0])
def test_its_ends(confidence: Confidence, count: int, power: float) -> None:
    rows = np.stack([np.eye(count)[0], np.full(count, 1 / count)])
    assert confidence(rows, power) == pytest.approx([1.0, 0.0], abs=1e-7)


@both
def test_it_rises_as_a_distribution_sharpens(confidence: Confidence) -> None:
    sharpness = np.linspace(0, 1, 30)[:, None]
    rows = sharpness * np.eye(4)[0] + (1 - sharpness) * np.full(4, 0.25)
    assert (np.diff(confidence(rows)) > 0).all()
    inside = confidence(rows)[1:-1]
    assert (confidence(rows, 2.0)[1:-1] < inside).all()


@both
def test_what_is_no_distribution_is_refused(confidence: Confidence) -> None:
    with pytest.raises(ValueError, match="sum to 1"):
        confidence(np.array([[0.5, 0.4]]))
    with pytest.raises(ValueError, match="two or more"):
        confidence(np.ones((3, 1)))
    with pytest.raises(ValueError, match="power"):
        confidence(np.array([[0.5, 0.5]]), 0.0)


def test_the_gate_is_worth_what_its_formula_says() -> None:
    rng = np.random.default_rng(0)
    confidence_N = rng.uniform(size=200_000)
    weak_N = (rng.uniform(size=200_000) < 0.6).astype(np.float64)
    strong_N = (rng.uniform(size=200_000) < 0.9).astype(np.float64)
    kept_N = rng.uniform(size=200_000) < confidence_N
    drawn = np.where(kept_N, weak_N, strong_N).mean()
    assert gated_quality(confidence_N, weak_N, strong_N) == pytest.approx(drawn, abs=0.003)


def test_with_a_calibrated_confidence_no_other_set_of_as_many_drafts_is_better_to_defer() -> None:
    """Deferring the least sure is optimal where the strong expert is as good everywhere."""
    rng = np.random.default_rng(1)
    confidence_N = rng.uniform(size=20_000)
    weak_N = (rng.uniform(size=20_000) < confidence_N).astype(np.float64)
    deferred_N = Threshold.of_share(confidence_N, 0.4).deferred(confidence_N)
    best = (deferred_N * 0.9 + (1 - deferred_N) * weak_N).mean()
    for _ in range(20):
        # Others that defer as many: the same order, disturbed.
        other_N = Threshold.of_share(
            confidence_N + rng.normal(scale=0.3, size=20_000), 0.4
        ).deferred(confidence_N + rng.normal(scale=0.3, size=20_000))
        other_N = other_N * 0.4 / other_N.mean()
        assert (other_N * 0.9 + (1 - other_N) * weak_N).mean() < best
