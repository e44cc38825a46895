"""Ratings, logits and posteriors against planted truths and slower ways to the same numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression

from routers.errors import TableError
from routers.estimators.linucb import LinUcbEstimator
from routers.estimators.logistic import LogisticEstimator
from routers.estimators.pairwise import PairwiseEstimator
from routers.estimators.thompson import ThompsonEstimator
from routers.records import FeatureBatch, Floats, OutcomeTable

EXPERTS = tuple(f"e{i:02d}" for i in range(12))


def features_of(vectors_ND: Floats) -> FeatureBatch:
    unit_ND = vectors_ND / np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    texts = tuple(f"text {i}" for i in range(len(unit_ND)))
    return FeatureBatch(texts, unit_ND.astype(np.float32), np.full(len(unit_ND), 50.0))


def table_of(score_NA: Floats) -> OutcomeTable:
    ids = tuple(f"q{i:05d}" for i in range(len(score_NA)))
    unknown_NA = np.full_like(score_NA, np.nan)
    experts = EXPERTS[: score_NA.shape[1]]
    return OutcomeTable(
        ids, ids, (None,) * len(ids), ids, experts, score_NA,
        unknown_NA, unknown_NA, unknown_NA, unknown_NA, np.ones_like(score_NA),
    )  # fmt: skip


def preferences(
    first_N: Sequence[int], second_N: Sequence[int], share_N: Sequence[float]
) -> Floats:
    """Scores of two experts a row, whose answers somebody compared: their shares of the win."""
    score_NA = np.full((len(share_N), len(EXPERTS)), np.nan)
    rows = np.arange(len(share_N))
    score_NA[rows, first_N] = share_N
    score_NA[rows, second_N] = 1 - np.asarray(share_N)
    return score_NA


def random_preferences(rating_A: Floats, count: int, rng: np.random.Generator) -> Floats:
    """Random pairs, a tenth of them ties."""
    first, second, share = [], [], []
    for _ in range(count):
        a, b = rng.choice(len(rating_A), 2, replace=False)
        won = float(rng.random() < expit(rating_A[a] - rating_A[b]))
        share.append(0.5 if rng.random() < 0.1 else won)
        first.append(a)
        second.append(b)
    return preferences(first, second, share)


def test_ratings_find_the_planted_order_from_preferences_alone() -> None:
    rng = np.random.default_rng(0)
    planted_A = np.linspace(-1.5, 1.5, 12)[rng.permutation(12)]
    table = table_of(random_preferences(planted_A, 2500, rng))
    features = features_of(rng.normal(size=(len(table), 16)))
    fitted = PairwiseEstimator().fit(features, table, rng)
    assert spearmanr(fitted.rating_A, planted_A).statistic > 0.95
    quality_A = fitted.predict(features).quality_NA.mean(axis=0)
    assert spearmanr(quality_A, planted_A).statistic > 0.95


def test_an_expert_of_weak_opponents_is_not_taken_for_a_strong_one() -> None:
    rng = np.random.default_rng(1)
    # e01 beats e00 alone, who loses to all; e02 is better, but mostly meets its equal, e03.
    met = [(1, 0, 0.9)] * 100 + [(2, 3, 0.5)] * 100
    met += [(2, 1, 0.8)] * 20 + [(3, 1, 0.8)] * 20 + [(3, 0, 1.0)] * 10
    first, second, chance = zip(*met, strict=True)
    won = [float(rng.random() < each) for each in chance]
    table = table_of(preferences(first, second, won)[:, :4])
    features = features_of(rng.normal(size=(len(table), 8)))
    quality_A = PairwiseEstimator().fit(features, table, rng).predict(features).quality_NA.mean(0)
    won_A = np.nanmean(table.score_NA, axis=0)
    assert won_A[1] > won_A[2]
    assert quality_A[1] < quality_A[2]


def test_one_step_near_a_request_is_close_to_a_fit_there() -> None:
    rng = np.random.default_rng(2)
    vectors_ND = rng.normal(size=(1500, 6))
    vectors_ND[:, 0] += np.where(np.arange(1500) < 750, 1.5, -1.5)
    left_N1 = (np.arange(1500) < 750)[:, None]
    mean_NA = np.where(left_N1, [0.7, 0.5, 0.4], [0.4, 0.5, 0.6])
    table = table_of((rng.random((1500, 3)) < mean_NA).astype(np.float64))
    features = features_of(vectors_ND)
    fitted = PairwiseEstimator(shrinkage=1e-6).fit(features, table, rng)
    vectors_64 = features.vectors_ND.astype(np.float64)
    for row in (3, 1200):
        alike_N = vectors_64 @ vectors_64[row]
        weight_N = 10 ** (4.0 * alike_N / alike_N.max())
        # A propensity is a weight turned over; what differs between rows must stay in (0, 1].
        propensity_NA = np.sqrt(weight_N.min() / weight_N)[:, None] * np.ones((1, 3))
        near = weight_N > weight_N.max() / 2000
        local = replace(table, propensity_NA=propensity_NA).take(np.flatnonzero(near))
        refitted = PairwiseEstimator(prior=1e-3)
        refitted = refitted.fit(features.take(np.flatnonzero(near)), local, rng)
        said_A = fitted.predict(features.take(np.array([row]))).quality_NA[0]
        order = np.argsort(refitted.rating_A).tolist()
        assert np.argsort(said_A).tolist() == order
        assert order == ([2, 1, 0] if row == 3 else [0, 1, 2])


def test_share_of_the_stronger_is_what_the_quantile_asks_for() -> None:
    rng = np.random.default_rng(3)
    vectors_ND = rng.normal(size=(2000, 8))
    chance_N = expit(2 * vectors_ND[:, 0])
    score_NA = np.column_stack([rng.random(2000) < chance_N, rng.random(2000) < 0.75])
    features, table = features_of(vectors_ND), table_of(score_NA.astype(np.float64))
    quality_NA = PairwiseEstimator().fit(features, table, rng).predict(features).quality_NA
    gain_N = quality_NA[:, 1] - quality_NA[:, 0]
    for share in (0.1, 0.5, 0.9):
        # A near-constant ranker has few different gains, and misses the share.
        assert (gain_N > np.quantile(gain_N, 1 - share)).mean() == pytest.approx(share, abs=0.005)


def test_a_tie_is_half_a_win_for_both() -> None:
    score_NA = np.ones((1000, 2))
    score_NA[:100, 1] = 0.0
    features = features_of(np.random.default_rng(7).normal(size=(1000, 4)))
    fitted = PairwiseEstimator().fit(features, table_of(score_NA), np.random.default_rng(0))
    lead = float(fitted.rating_A[0] - fitted.rating_A[1])
    assert lead == pytest.approx(np.log(0.55 / 0.45), abs=0.005)


def test_nobody_is_rated_where_nobody_met() -> None:
    score_NA = np.full((40, 2), np.nan)
    score_NA[:20, 0], score_NA[20:, 1] = 1.0, 0.0
    features = features_of(np.random.default_rng(4).normal(size=(40, 4)))
    with pytest.raises(TableError, match="no query was scored for two experts"):
        PairwiseEstimator().fit(features, table_of(score_NA), np.random.default_rng(0))


def test_logits_of_all_experts_are_those_of_one_regression_each() -> None:
    rng = np.random.default_rng(5)
    vectors_ND = rng.normal(size=(800, 10))
    features = features_of(vectors_ND)
    logit_NA = 3 * features.vectors_ND @ rng.normal(size=(10, 4)) + np.array([2.0, 0.5, -1.0, -3.0])
    score_NA = (rng.random((800, 4)) < expit(logit_NA)).astype(np.float64)
    score_NA[rng.random(800) < 0.4, 1] = np.nan
    found_NA = LogisticEstimator(penalty=2.0).fit(features, table_of(score_NA), rng)
    quality_NA = found_NA.predict(features).quality_NA
    for expert in range(4):
        seen = ~np.isnan(score_NA[:, expert])
        one = LogisticRegression(C=0.5, tol=1e-10, max_iter=5000)
        one.fit(features.vectors_ND[seen].astype(np.float64), score_NA[seen, expert])
        expected_N = one.predict_proba(features.vectors_ND)[:, 1]
        np.testing.assert_allclose(quality_NA[:, expert], expected_N, atol=2e-3)


@pytest.mark.parametrize("kind", [LinUcbEstimator, ThompsonEstimator])
def test_the_posterior_covers_the_truth_as_often_as_it_says(kind: type[LinUcbEstimator]) -> None:
    """Chance of a linear truth within one and two stderr, over many small fits."""
    inside = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        features = features_of(rng.normal(size=(260, 6)))
        vectors_ND = features.vectors_ND.astype(np.float64)
        # Slopes as the prior expects them, of a spread of noise / √penalty.
        truth_NA = 0.5 + vectors_ND @ rng.normal(0.0, 0.4 / np.sqrt(10.0), size=(6, 3))
        truth_NA = np.clip(truth_NA, 0.02, 0.98)
        score_NA = (rng.random((260, 3)) < truth_NA).astype(np.float64)
        train, test = np.arange(200), np.arange(200, 260)
        fitted = kind().fit(features.take(train), table_of(score_NA).take(train), rng)
        found = fitted.predict(features.take(test))
        inside.append(np.abs(found.quality_NA - truth_NA[test]) / found.stderr_NA)
    off = np.concatenate(inside)
    assert (off < 1).mean() == pytest.approx(0.683, abs=0.05)
    assert (off < 2).mean() == pytest.approx(0.954, abs=0.025)


@pytest.mark.parametrize("kind", [LinUcbEstimator, ThompsonEstimator])
def test_rows_that_are_known_twice_make_nobody_surer_by_weight_alone(
    kind: type[LinUcbEstimator],
) -> None:
    rng = np.random.default_rng(6)
    features = features_of(rng.normal(size=(300, 6)))
    table = table_of((rng.random((300, 2)) < 0.6).astype(np.float64))
    rare = replace(table, propensity_NA=np.full((300, 2), 0.1))
    even = kind().fit(features, table, rng).predict(features)
    heavy = kind().fit(features, rare, rng).predict(features)
    np.testing.assert_allclose(heavy.stderr_NA, even.stderr_NA, rtol=1e-6)
    np.testing.assert_allclose(heavy.quality_NA, even.quality_NA, atol=1e-6)
