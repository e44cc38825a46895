from __future__ import annotations

import numpy as np
import pytest

from eval.metrics.arena import arena_score


@pytest.mark.parametrize(
    ("quality", "usd_per_1000", "score"),
    [(0.6688, 0.15, 66.9), (0.6809, 0.54, 66.67), (0.6634, 0.21, 66.12), (0.7396, 10.02, 64.32)],
)
def test_the_published_leaderboard_is_reproduced(
    quality: float, usd_per_1000: float, score: float
) -> None:
    assert 100 * arena_score(quality, usd_per_1000 / 1000) == pytest.approx(score, abs=0.02)


def test_costs_beyond_the_scale_count_as_its_ends() -> None:
    assert arena_score(0.5, 1.0) == arena_score(0.5, 0.2) == 0
    assert arena_score(0.5, 0.0) == arena_score(0.5, 1e-9)
    assert np.isnan(arena_score(0.5, float("nan")))
