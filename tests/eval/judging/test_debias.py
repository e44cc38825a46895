"""Length is taken out of scores, and no more than that."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from eval.errors import ComparisonError
from eval.judging.debias import MOST_CORRELATION, debiased, length_weight


@pytest.mark.parametrize("seed", range(5))
def test_a_planted_liking_of_length_is_removed(seed: int) -> None:
    rng = np.random.default_rng(seed)
    length_N = rng.lognormal(6.0, 0.6, 2000)
    merit_N = rng.normal(size=2000)
    score_N = merit_N + 0.002 * length_N
    weight = length_weight(score_N, length_N)
    left_N = score_N - weight * length_N
    assert spearmanr(left_N, length_N).statistic <= MOST_CORRELATION + 1e-9
    # The smallest: a little less would leave too much.
    less_N = score_N - 0.98 * weight * length_N
    assert spearmanr(less_N, length_N).statistic > MOST_CORRELATION
    assert weight == pytest.approx(0.002, abs=0.0005)
    assert np.corrcoef(left_N, merit_N)[0, 1] > 0.99


def test_scores_that_owe_nothing_to_length_are_left_alone() -> None:
    rng = np.random.default_rng(1)
    length_N = rng.lognormal(6.0, 0.6, 500)
    assert length_weight(-length_N, length_N) == 0.0
    assert length_weight(rng.normal(size=500), np.full(500, 7.0)) == 0.0


def test_each_objective_has_its_own_weight_and_keeps_its_mean() -> None:
    rng = np.random.default_rng(2)
    length_N = rng.lognormal(6.0, 0.6, 1000)
    score_NK = np.stack([rng.normal(size=1000) + 0.004 * length_N, -length_N], axis=1)
    fair_NK = debiased(score_NK, length_N)
    assert abs(spearmanr(fair_NK[:, 0], length_N).statistic) <= MOST_CORRELATION + 1e-9
    assert np.array_equal(fair_NK[:, 1], score_NK[:, 1])
    np.testing.assert_allclose(fair_NK.mean(axis=0), score_NK.mean(axis=0))


@pytest.mark.parametrize(
    ("scores", "lengths"), [([1, 2], [1, 2]), ([1, 2, 3], [1, 2]), ([1, 2, np.nan], [1, 2, 3])]
)
def test_what_is_no_such_data_is_refused(scores: list[float], lengths: list[float]) -> None:
    with pytest.raises(ComparisonError, match="debiasing needs"):
        length_weight(np.array(scores), lengths)
