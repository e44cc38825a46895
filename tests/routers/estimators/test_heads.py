"""Trained heads in worlds whose truth is known, and the parts that they share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import spearmanr

from routers.estimators.bilinear import BilinearEstimator
from routers.estimators.contrastive import ContrastiveEstimator
from routers.estimators.head import HeadEstimator
from routers.estimators.head_layer import HeadLayer
from routers.estimators.head_link import linked
from routers.estimators.irt import IrtEstimator
from routers.estimators.mlp import MlpEstimator
from routers.estimators.observed import Observed
from routers.records import FeatureBatch, Floats, OutcomeTable
from routers.training.batches import Weights

WIDTH = 12
NOWHERE = np.array([], dtype=np.intp)


def features_of(vectors_ND: Floats) -> FeatureBatch:
    length_N1 = np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    unit_ND = (vectors_ND / length_N1).astype(np.float32)
    return FeatureBatch(("?",) * len(unit_ND), unit_ND, np.full(len(unit_ND), 9.0))


def table_of(score_NA: Floats, experts: Sequence[str] | None = None) -> OutcomeTable:
    ids = tuple(f"q{row:05d}" for row in range(len(score_NA)))
    unknown_NA = np.full_like(score_NA, np.nan)
    return OutcomeTable(
        ids,
        ("?",) * len(ids),
        (None,) * len(ids),
        ids,
        tuple(experts or (f"e{column}" for column in range(score_NA.shape[1]))),
        score_NA,
        unknown_NA,
        unknown_NA,
        unknown_NA,
        unknown_NA,
        np.ones_like(score_NA),
    )


def drawn(quality_NA: Floats, seed: int) -> Floats:
    uniform_NA = np.random.default_rng(seed).random(quality_NA.shape)
    return (uniform_NA < quality_NA).astype(np.float64)


def all_observed(score_NA: Floats) -> Observed:
    return Observed(score_NA, np.ones_like(score_NA), score_NA.mean(axis=0))


class Exam:
    """Items on a line of difficulty, experts on a line of ability."""

    ability_A = np.linspace(-2.0, 2.0, 8)

    def __init__(self, rows: int, seed: int) -> None:
        vectors_ND = np.random.default_rng(seed).normal(size=(rows, WIDTH))
        self.features = features_of(vectors_ND)
        # Of unit vectors one coordinate is spread by 1 / sqrt(WIDTH).
        self.difficulty_N = 2.0 * WIDTH**0.5 * self.features.vectors_ND[:, 0].astype(np.float64)

    def quality(self, ability_A: Floats) -> Floats:
        quality_NA: Floats = expit(1.5 * (ability_A - self.difficulty_N[:, None]))
        return quality_NA


@pytest.fixture(scope="module")
def exam() -> Exam:
    return Exam(700, seed=1)


@pytest.fixture(scope="module")
def examined(exam: Exam) -> IrtEstimator:
    table = table_of(drawn(exam.quality(exam.ability_A), 2))
    unfitted = IrtEstimator(abilities=2, members=1, learning_rate=0.01, noise=0.0, epochs=40)
    return unfitted.fit(exam.features, table, np.random.default_rng(0))


def test_item_response_finds_the_order_of_abilities_and_of_difficulties(
    exam: Exam, examined: IrtEstimator
) -> None:
    reached_A = examined.predict(exam.features).quality_NA.mean(axis=0)
    asks_D = examined.discrimination(exam.features).mean(axis=0)
    able_A = examined.abilities_of_experts() @ asks_D
    assert spearmanr(reached_A, exam.ability_A).statistic > 0.95
    assert spearmanr(able_A, exam.ability_A).statistic > 0.95
    unseen = Exam(400, seed=3)
    assert spearmanr(examined.difficulty(unseen.features), unseen.difficulty_N).statistic > 0.9


def test_harder_items_are_expected_to_be_missed_by_every_expert(examined: IrtEstimator) -> None:
    unseen = Exam(400, seed=3)
    order_N = np.argsort(examined.difficulty(unseen.features))
    fifths = np.array_split(examined.predict(unseen.features).quality_NA[order_N], 5)
    means_FA = np.array([part.mean(axis=0) for part in fifths])
    assert (np.diff(means_FA, axis=0) < 0).all()


def topics(rows: int, seed: int) -> tuple[FeatureBatch, Floats]:
    """Queries of four topics, and one-hot which; expert i is the one for topic i."""
    rng = np.random.default_rng(seed)
    home_N = rng.integers(4, size=rows)
    vectors_ND = rng.normal(size=(rows, WIDTH)) * 0.15
    vectors_ND[np.arange(rows), home_N] += 1.0
    return features_of(vectors_ND), np.eye(4)[home_N]


def test_a_new_expert_is_placed_by_its_probes_with_the_projection_as_it_is() -> None:
    features, at_home_N4 = topics(500, seed=1)
    quality_N4 = 0.3 + 0.6 * at_home_N4
    fitted = BilinearEstimator(width=8, members=2, learning_rate=0.01).fit(
        features, table_of(drawn(quality_N4, 2)), np.random.default_rng(0)
    )
    asked, at_home_P4 = topics(60, seed=3)
    score_P1 = drawn(0.1 + 0.8 * at_home_P4[:, 2:3], 4)
    known = fitted.add_expert("new", asked, table_of(score_P1, ["new"]))
    unseen, unseen_home_N4 = topics(300, seed=5)
    found = known.predict(unseen)
    home_N = unseen_home_N4[:, 2] > 0
    assert found.quality_NA[home_N, -1].mean() > found.quality_NA[~home_N, -1].mean() + 0.25
    assert np.corrcoef(found.quality_NA[:, -1], home_N)[0, 1] > 0.8
    # Sixty outcomes say less than five hundred.
    assert found.stderr_NA[:, -1].mean() > 1.1 * found.stderr_NA[:, :4].mean()


def test_every_expert_that_is_right_teaches_more_than_the_first_of_them() -> None:
    """Several are right on most queries; whose turn it is follows from the topic."""
    features, at_home_N4 = topics(500, seed=1)
    quality_N4 = 0.75 + 0.2 * at_home_N4
    score_N4 = drawn(quality_N4, 2)
    first_N4 = np.eye(4)[score_N4.argmax(axis=1)]
    unseen, unseen_home_N4 = topics(500, seed=3)

    def reached(targets_N4: Floats) -> float:
        unfitted = MlpEstimator(units=16, members=1, learning_rate=5e-3)
        fitted = unfitted.fit(features, table_of(targets_N4), np.random.default_rng(0))
        chosen_N = fitted.predict(unseen).quality_NA.argmax(axis=1)
        return float((0.75 + 0.2 * unseen_home_N4)[np.arange(500), chosen_N].mean())

    assert reached(score_N4) > reached(first_N4) + 0.03


def test_similarities_become_qualities_by_which_the_best_is_found() -> None:
    features, at_home_N4 = topics(500, seed=1)
    score_N4 = drawn(0.2 + 0.6 * at_home_N4, 2)
    fitted = ContrastiveEstimator(width=8, clusters=4, learning_rate=0.01).fit(
        features, table_of(score_N4), np.random.default_rng(0)
    )
    unseen, unseen_home_N4 = topics(400, seed=3)
    quality_N4 = fitted.predict(unseen).quality_NA
    assert (quality_N4.argmax(axis=1) == unseen_home_N4.argmax(axis=1)).mean() > 0.95
    assert quality_N4.mean() == pytest.approx(0.35, abs=0.05)
    assert quality_N4[unseen_home_N4 > 0].mean() == pytest.approx(0.8, abs=0.12)


def test_queries_of_a_cluster_are_drawn_together() -> None:
    features, at_home_N4 = topics(300, seed=1)
    table = table_of(drawn(np.full((300, 4), 0.5), 2))
    same_NN = at_home_N4 @ at_home_N4.T > 0

    def apart(cluster_weight: float) -> float:
        unfitted = ContrastiveEstimator(8, clusters=4, cluster_weight=cluster_weight, epochs=30)
        fitted = unfitted.fit(features, table, np.random.default_rng(0))
        inside_NH = fitted._inside(features)
        cosine_NN = inside_NH @ inside_NH.T
        return float(cosine_NN[same_NN].mean() - cosine_NN[~same_NN].mean())

    assert apart(3.0) > apart(0.0) + 0.1


def random_weights(estimator: HeadEstimator, seed: int) -> Weights:
    rng = np.random.default_rng(seed)
    vectors_ND = rng.normal(size=(50, WIDTH)).astype(np.float32)
    start = estimator.start(vectors_ND, all_observed(drawn(np.full((50, 3), 0.5), 0)), rng)
    fixed = estimator.frozen
    return {
        name: np.asarray(array if name in fixed else rng.normal(size=array.shape), np.float32)
        for name, array in start.items()
    }


@pytest.mark.parametrize("estimator", [MlpEstimator(5), BilinearEstimator(5), IrtEstimator(5)])
def test_joined_runs_say_the_mean_of_what_each_says(estimator: HeadEstimator) -> None:
    members = [random_weights(estimator, seed) for seed in range(3)]
    members = [
        {**each, **{name: members[0][name] for name in estimator.frozen}} for each in members
    ]
    inputs = {"vectors": np.random.default_rng(9).normal(size=(7, WIDTH)).astype(np.float32)}
    each = [estimator._logits(weights, inputs) for weights in members]
    joined = estimator._logits(estimator.joined(members), inputs)
    np.testing.assert_allclose(joined, np.mean(each, axis=0), rtol=1e-3, atol=1e-4)


def test_a_link_finds_the_scale_and_ignores_what_a_row_has_in_common() -> None:
    rng = np.random.default_rng(0)
    inside_NH, slope_HA = rng.normal(size=(4000, 3)), rng.normal(size=(3, 4))
    truth_NA = inside_NH @ (slope_HA - slope_HA.mean(axis=1, keepdims=True)) + np.arange(4) / 2
    outcomes = all_observed(drawn(expit(truth_NA), 1))
    common_H1 = 5 * rng.normal(size=(3, 1))
    found_HA, offset_A = linked(slope_HA / 7 + common_H1, np.zeros(4), inside_NH, outcomes, NOWHERE)
    np.testing.assert_allclose(inside_NH @ found_HA + offset_A, truth_NA, atol=0.5)


def test_a_link_never_turns_a_ranking_round() -> None:
    rng = np.random.default_rng(0)
    inside_NH, slope_HA = rng.normal(size=(500, 3)), rng.normal(size=(3, 4))
    outcomes = all_observed(drawn(expit(-inside_NH @ slope_HA), 1))
    found_HA, offset_A = linked(slope_HA, np.zeros(4), inside_NH, outcomes, NOWHERE)
    assert np.abs(found_HA).max() == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(expit(offset_A), outcomes.mean_A, atol=0.02)


def test_doubt_falls_with_outcomes_and_grows_away_from_them() -> None:
    rng = np.random.default_rng(0)
    inside_NH = rng.normal(size=(400, 4))
    seen_NA = np.column_stack([np.ones(400), np.arange(400) < 40])
    outcomes = Observed(np.full((400, 2), 0.5), seen_NA, np.full(2, 0.5))
    layer = HeadLayer.of(np.zeros((4, 2)), np.zeros(2), inside_NH, outcomes)
    _, near_NA = layer.predict(np.zeros((1, 4)))
    _, far_NA = layer.predict(np.full((1, 4), 5.0))
    assert (far_NA > 2 * near_NA).all()
    assert near_NA[0, 1] > 2 * near_NA[0, 0]
    # Of 400 coins the mean is known to .025.
    assert near_NA[0, 0] == pytest.approx(0.025, rel=0.1)
