"""The pieces that estimators are made of, each against an answer known beforehand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from routers.errors import RoutingError
from routers.estimators.calibrated import CalibratedEstimator
from routers.estimators.category import CategoryEstimator
from routers.estimators.cluster import ClusterEstimator
from routers.estimators.effort import EffortModel
from routers.estimators.knn import KnnEstimator, _nearest
from routers.estimators.observed import observed
from routers.estimators.prior import PriorEstimator
from routers.estimators.prototype import PrototypeTable
from routers.estimators.regions import Regions, k_means
from routers.estimators.ridge import RidgeEstimator
from routers.estimators.softmax import SoftmaxClassifier
from routers.records import Estimates, FeatureBatch, Floats, OutcomeTable
from tests.routers.made_tables import NAN, features_of, rng, table_of, two_tasks, unit


def test_neighbours_count_by_nearness_and_by_rarity() -> None:
    vectors_ND = unit(np.array([[1.0, 0.0], [1.0, 0.2], [0.0, 1.0]]))
    table = table_of(np.array([[1.0], [0.0], [0.0]]), propensity_NA=np.array([[1.0], [0.5], [1.0]]))
    fitted = KnnEstimator(3, sharpness=2.0, shrinkage=1e-9).fit(
        features_of(vectors_ND), table, rng()
    )
    alike_N = vectors_ND @ vectors_ND[0]
    kernel_N = np.exp(2 * alike_N) - np.exp(2 * alike_N[2])
    expected = kernel_N[0] / (kernel_N[0] + 2 * kernel_N[1])
    found = fitted.predict(features_of(vectors_ND[:1]))
    assert found.quality_NA[0, 0] == pytest.approx(expected, abs=1e-4)


def test_few_observed_neighbours_leave_the_experts_own_mean() -> None:
    count = 200
    vectors_ND = unit(rng().standard_normal((count, 4)))
    score_NA = np.full((count, 2), 0.5)
    score_NA[:, 1] = NAN
    score_NA[:4, 1] = [1.0, 1.0, 0.0, 0.0]
    fitted = KnnEstimator(5).fit(features_of(vectors_ND), table_of(score_NA), rng())
    near_one = fitted.predict(features_of(vectors_ND[:1])).quality_NA[0, 1]
    assert 0.5 < near_one < 0.6


def test_neighbours_are_chosen_few_for_fine_detail_and_many_for_noise() -> None:
    vectors_ND = unit(rng().standard_normal((600, 2)))
    angle_N = np.arctan2(vectors_ND[:, 1], vectors_ND[:, 0])
    fine_N = (np.floor(angle_N * 4) % 2).astype(np.float64)
    fine = table_of(np.column_stack([fine_N, 1 - fine_N]))
    noise = table_of(rng().random((600, 2)).round())
    chosen = [KnnEstimator().fit(features_of(vectors_ND), t, rng()).k for t in (fine, noise)]
    assert chosen[0] is not None
    assert chosen[1] is not None
    assert chosen[0] <= 25 < 100 <= chosen[1]


def test_of_a_large_table_only_a_sample_is_remembered() -> None:
    vectors_ND = unit(rng().standard_normal((300, 3)))
    table = table_of(rng().random((300, 2)))
    fitted = KnnEstimator(10, most_rows=50).fit(features_of(vectors_ND), table, rng())
    assert fitted.state()[1]["vectors"].shape == (50, 3)


def test_ridge_is_the_weighted_ridge_of_the_textbook() -> None:
    vectors_ND = unit(rng().standard_normal((80, 3)))
    score_NA = rng().random((80, 2))
    score_NA[::3, 1] = NAN
    propensity_NA = np.where(np.arange(160).reshape(80, 2) % 5 == 0, 0.2, 1.0)
    table = table_of(score_NA, propensity_NA=propensity_NA)
    fitted = RidgeEstimator(alpha=2.0).fit(features_of(vectors_ND), table, rng())
    found = fitted.predict(features_of(vectors_ND[:7])).quality_NA
    weight_NA = observed(features_of(vectors_ND), table).weight_NA
    for expert in range(2):
        seen = ~np.isnan(score_NA[:, expert])
        reference = Ridge(alpha=2.0).fit(
            vectors_ND[seen].astype(np.float64),
            score_NA[seen, expert],
            sample_weight=weight_NA[seen, expert],
        )
        np.testing.assert_allclose(
            found[:, expert], reference.predict(vectors_ND[:7]).clip(0, 1), atol=1e-6
        )


def test_the_standard_error_of_ridge_covers_what_it_estimates() -> None:
    vectors_ND = unit(rng().standard_normal((400, 5)))
    truth_N = 0.5 + vectors_ND.astype(np.float64) @ np.array([0.2, -0.1, 0.1, 0.0, 0.05])
    errors, claimed = [], []
    for seed in range(30):
        draws_N = (np.random.default_rng(seed).random(400) < truth_N).astype(np.float64)
        table = table_of(np.column_stack([draws_N, draws_N]))
        fitted = RidgeEstimator(alpha=0.1).fit(features_of(vectors_ND), table, rng())
        found = fitted.predict(features_of(vectors_ND[:20]))
        errors.append(found.quality_NA[:, 0] - truth_N[:20])
        claimed.append(found.stderr_NA[:, 0])
    assert np.std(errors) == pytest.approx(np.mean(claimed), rel=0.15)


def test_a_thin_cell_is_drawn_to_what_the_pool_says_of_expert_and_region() -> None:
    # Region 0 is easy for a; b was seen there once, and failed.
    score_NA = np.array([[1.0, NAN]] * 99 + [[1.0, 0.0]] + [[0.0, 0.4]] * 100)
    region_NR = np.zeros((200, 2))
    region_NR[:100, 0] = region_NR[100:, 1] = 1
    table = table_of(score_NA)
    outcomes = observed(features_of(np.zeros((200, 2), np.float32)), table)
    prototypes = PrototypeTable.of(region_NR, outcomes)
    pool_b = outcomes.mean_A[1]
    assert prototypes.mean_RA[0, 0] > 0.95
    assert prototypes.mean_RA[0, 1] > pool_b + 0.2
    assert prototypes.stderr_RA[0, 1] > 3 * prototypes.stderr_RA[0, 0]
    np.testing.assert_allclose(prototypes.pool_A, outcomes.mean_A)


def test_mixing_regions_mixes_their_rows() -> None:
    prototypes = PrototypeTable(
        np.array([[1.0, 0.0], [0.0, 1.0]]), np.full((2, 2), 0.1), np.array([0.5, 0.5])
    )
    mean_NA, stderr_NA = prototypes.mix(np.array([[0.25, 0.75]]))
    np.testing.assert_allclose(mean_NA, [[0.25, 0.75]])
    np.testing.assert_allclose(stderr_NA, np.hypot(0.025, 0.075))


def test_class_probabilities_are_as_often_right_as_they_say() -> None:
    generator = rng()
    vectors_ND = generator.standard_normal((3000, 3))
    odds_NC = np.exp(2 * vectors_ND)
    share_NC = odds_NC / odds_NC.sum(axis=1, keepdims=True)
    labels_N = np.array([generator.choice(3, p=share) for share in share_NC])
    groups = [str(i) for i in range(2000)]
    fitted = SoftmaxClassifier.fit(vectors_ND[:2000], labels_N[:2000], groups, 3, generator)
    found_NC = fitted.probabilities(vectors_ND[2000:])
    np.testing.assert_allclose(found_NC.sum(axis=1), 1)
    assert np.abs(found_NC - share_NC[2000:]).mean() < 0.03


@pytest.mark.parametrize("present", [[1], [0, 2]], ids=["one class", "two classes"])
def test_a_class_that_was_never_seen_has_probability_zero(present: list[int]) -> None:
    labels_N = np.array(present * 20)
    vectors_ND = np.eye(3)[labels_N]
    groups = [str(i) for i in range(len(labels_N))]
    fitted = SoftmaxClassifier.fit(vectors_ND, labels_N, groups, 3, rng())
    found_NC = fitted.probabilities(np.eye(3)[present])
    np.testing.assert_allclose(found_NC[:, [c for c in range(3) if c not in present]], 0)
    assert (found_NC.argmax(axis=1) == present).all()


def test_clusters_are_fewer_where_rows_are_few() -> None:
    features, table = two_tasks(60)
    _, arrays = ClusterEstimator().fit(features, table, rng()).state()
    assert arrays["parts/regions/centres"].shape[1] == 3


def test_answers_grow_with_what_makes_them_long_and_keep_their_mean() -> None:
    generator = rng()
    prompt_N = generator.uniform(10, 1000, 500)
    vectors_ND = unit(generator.standard_normal((500, 3)))
    output_NA = (prompt_N**0.5 * generator.lognormal(0, 0.5, 500))[:, None]
    features = features_of(vectors_ND, prompt_N)
    model = EffortModel().fit(features, table_of(np.ones((500, 1)), output_NA=output_NA))
    nothing_NA = np.zeros((500, 1))
    found_N = model.estimates(features, nothing_NA, nothing_NA).output_tokens_NA[:, 0]
    assert np.corrcoef(found_N, prompt_N**0.5)[0, 1] > 0.95
    assert found_N.mean() == pytest.approx(output_NA.mean(), rel=0.05)


def test_few_known_answers_give_their_median_and_none_give_nothing() -> None:
    output_NA = np.full((50, 2), NAN)
    output_NA[:5, 0] = [1, 2, 3, 400, 500]
    features = features_of(unit(rng().standard_normal((50, 3))))
    model = EffortModel().fit(features, table_of(np.ones((50, 2)), output_NA=output_NA))
    found = model.estimates(features, np.zeros((50, 2)), np.zeros((50, 2)))
    np.testing.assert_allclose(found.output_tokens_NA[:, 0], 3)
    assert np.isnan(found.output_tokens_NA[:, 1]).all()
    assert np.isnan(found.latency_s_NA).all()


def test_qualities_outside_the_unit_interval_are_clipped() -> None:
    features = features_of(np.zeros((1, 2), np.float32))
    model = EffortModel().fit(features, table_of(np.ones((1, 2))))
    found = model.estimates(features, np.array([[-0.2, 1.3]]), np.zeros((1, 2)))
    np.testing.assert_array_equal(found.quality_NA, [[0, 1]])


def copies_of_noise() -> tuple[FeatureBatch, Floats, tuple[str, ...]]:
    """200 queries, each there five times, with one random score per query for all its copies."""
    vectors_ND = unit(rng().standard_normal((200, 20)))
    score_NA = rng().random((200, 2)).round()
    groups = tuple(f"g{i}" for i in range(200) for _ in range(5))
    return features_of(np.repeat(vectors_ND, 5, axis=0)), np.repeat(score_NA, 5, axis=0), groups


def test_a_calibration_does_not_believe_what_only_copies_confirm() -> None:
    features, score_NA, groups = copies_of_noise()

    def spread(table: OutcomeTable) -> float:
        wrapped = CalibratedEstimator(KnnEstimator(4, sharpness=1.0, shrinkage=1.0))
        return float(wrapped.fit(features, table, rng()).predict(features).quality_NA.std())

    assert spread(table_of(score_NA)) > 0.3
    assert spread(table_of(score_NA, groups=groups)) < 0.1


class Overconfident(PriorEstimator):
    """Says 0 or 1 where .3 or .7 is true."""

    def predict(self, features: FeatureBatch) -> Estimates:
        extreme_N1 = (features.vectors_ND[:, :1] > 0).astype(np.float64)
        return replace(super().predict(features), quality_NA=np.repeat(extreme_N1, 2, axis=1))


def test_calibration_turns_too_sure_into_as_often_right() -> None:
    generator = rng()
    vectors_ND = unit(generator.standard_normal((4000, 2)))
    truth_N1 = np.where(vectors_ND[:, :1] > 0, 0.7, 0.3)
    score_NA = (generator.random((4000, 2)) < truth_N1).astype(np.float64)
    features = features_of(vectors_ND)
    fitted = CalibratedEstimator(Overconfident()).fit(features, table_of(score_NA), generator)
    found_NA = fitted.predict(features).quality_NA
    np.testing.assert_allclose(found_NA, np.broadcast_to(truth_N1, (4000, 2)), atol=0.03)


def test_calibration_keeps_the_order_of_requests() -> None:
    features, table = two_tasks(300)
    inner = RidgeEstimator(3.0)
    raw_N = inner.fit(features, table, rng()).predict(features).quality_NA[:, 0]
    found_N = CalibratedEstimator(inner).fit(features, table, rng()).predict(features).quality_NA
    order = np.argsort(raw_N)
    assert (np.diff(found_N[order, 0]) >= -1e-12).all()


@pytest.mark.parametrize(
    "kind", [KnnEstimator, RidgeEstimator, CategoryEstimator, ClusterEstimator]
)
def test_predicting_before_fitting_says_so(kind: type[KnnEstimator]) -> None:
    with pytest.raises(RoutingError, match="has not been fitted"):
        kind().predict(features_of(np.zeros((1, 2), np.float32)))


@given(st.integers(1, 60), st.integers(1, 70), st.integers(0, 2**32 - 1))
def test_neighbours_are_those_that_a_full_sort_finds(rows: int, k: int, seed: int) -> None:
    chance = np.random.default_rng(seed)
    # Small whole numbers, so that products are exact and many are equal.
    rows_ND = chance.integers(-2, 3, (rows, 3)).astype(np.float32)
    queries_ND = chance.integers(-2, 3, (3, 3)).astype(np.float32)
    [(_, near_BK, alike_BK)] = _nearest(queries_ND, np.ascontiguousarray(rows_ND.T), k)
    for query_D, near_K, alike_K in zip(queries_ND, near_BK, alike_BK, strict=True):
        assert len(set(near_K.tolist())) == min(k, rows)
        np.testing.assert_array_equal(rows_ND[near_K] @ query_D, alike_K)
        np.testing.assert_array_equal(np.sort(alike_K), np.sort(rows_ND @ query_D)[-k:])


def test_out_of_fold_is_what_one_expects_who_had_not_seen_the_row() -> None:
    vectors_ND = unit(rng().standard_normal((300, 4)))
    score_NA = (rng().random((300, 2)) < 0.5).astype(np.float64)
    table, features = table_of(score_NA), features_of(vectors_ND)
    fitted = CalibratedEstimator(KnnEstimator(1, shrinkage=1e-9)).fit(features, table, rng())
    unseen = fitted.out_of_fold(table)
    seen_right = np.corrcoef(fitted.predict(features).quality_NA.ravel(), score_NA.ravel())[0, 1]
    assert unseen.experts == table.experts
    assert not np.isnan(unseen.quality_NA).any()
    # The scores are chance: nobody can know those of a row that was left out.
    assert abs(np.corrcoef(unseen.quality_NA.ravel(), score_NA.ravel())[0, 1]) < 0.15
    assert seen_right > 0.5


def test_an_artifact_keeps_nothing_of_what_was_out_of_fold() -> None:
    score_NA = rng().random((60, 2))
    table, features = table_of(score_NA), features_of(unit(rng().standard_normal((60, 3))))
    fitted = CalibratedEstimator(KnnEstimator(5)).fit(features, table, rng())
    with pytest.raises(RoutingError, match="not been fitted"):
        CalibratedEstimator.from_state(fitted.state()).out_of_fold(table)


def test_rows_of_which_few_differ_have_few_clusters() -> None:
    vectors_ND = np.repeat(np.eye(3, dtype=np.float32), 10, axis=0)
    centres_RD = k_means(vectors_ND, 5, rng())
    assert centres_RD.shape == (5, 3)
    assert sorted(np.unique(centres_RD, axis=0).argmax(axis=1).tolist()) == [0, 1, 2]
    home_NR = Regions(centres_RD[None]).homes(vectors_ND)
    assert sorted(home_NR.sum(axis=0).tolist()) == [0, 0, 10, 10, 10]
