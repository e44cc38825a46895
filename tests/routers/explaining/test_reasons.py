"""A decision can say why, in numbers that add up and in one sentence that has them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from routers.encoders.lexical import HashingEncoder, TfidfSvdEncoder
from routers.estimators.averaged import AveragedEstimator
from routers.estimators.calibrated import CalibratedEstimator
from routers.estimators.category import CategoryEstimator
from routers.estimators.knn import KnnEstimator
from routers.estimators.ridge import RidgeEstimator
from routers.explaining.reasons import Why, contributions, merged, reasons_of, why
from routers.features import Featurizer
from routers.records import (
    Contribution,
    FeatureBatch,
    Linear,
    Neighbour,
    OutcomeTable,
    Reasons,
    Region,
)

SUBJECTS = ("law court statute", "gene cell protein", "wave field charge")
TEXTS = tuple(f"{SUBJECTS[row % 3]} question {row} about {row % 7}" for row in range(120))


def a_table() -> OutcomeTable:
    """Expert "a" knows law, "b" the rest; not everybody was asked everything."""
    rng = np.random.default_rng(0)
    subject_N = np.arange(len(TEXTS)) % 3
    score_NA = np.where(subject_N[:, None] == 0, [0.9, 0.2, 0.5], [0.3, 0.8, 0.5])
    score_NA = np.clip(score_NA + rng.normal(0, 0.05, score_NA.shape), 0, 1)
    score_NA[rng.random(score_NA.shape) < 0.2] = np.nan
    score_NA[:, 1] = np.where(np.isnan(score_NA[:, 1]), 0.5, score_NA[:, 1])
    unknown_NA = np.full_like(score_NA, np.nan)
    ids = tuple(f"q{row}" for row in range(len(TEXTS)))
    return OutcomeTable(
        query_ids=ids,
        prompts=TEXTS,
        tasks=tuple(SUBJECTS[subject] for subject in subject_N),
        groups=ids,
        experts=("a", "b", "c"),
        score_NA=score_NA,
        prompt_tokens_NA=unknown_NA,
        output_tokens_NA=unknown_NA,
        cost_usd_NA=unknown_NA,
        latency_s_NA=unknown_NA,
        propensity_NA=np.ones_like(score_NA),
    )


@pytest.fixture(scope="module")
def table() -> OutcomeTable:
    return a_table()


@pytest.fixture(scope="module")
def featurizer() -> Featurizer:
    return Featurizer(TfidfSvdEncoder(16)).fit(TEXTS, np.random.default_rng(0))


@pytest.fixture(scope="module")
def features(featurizer: Featurizer) -> FeatureBatch:
    return featurizer.transform(TEXTS)


def test_neighbours_are_the_true_nearest_with_their_scores(
    table: OutcomeTable, featurizer: Featurizer, features: FeatureBatch
) -> None:
    fitted = KnnEstimator(k=20).fit(features, table, np.random.default_rng(0))
    asked = featurizer.transform(["is a statute law in court?"])
    found = reasons_of(fitted, asked, "a", "c").neighbours
    alike_N = features.vectors_ND @ asked.vectors_ND[0]
    nearest = np.sort(alike_N)[::-1][: len(found)]
    np.testing.assert_allclose([one.similarity for one in found], nearest, atol=1e-6)
    for one in found:
        row = table.query_ids.index(one.query_id)
        assert alike_N[row] == pytest.approx(one.similarity, abs=1e-6)
        scores = dict(zip(table.experts, table.score_NA[row], strict=True))
        wanted = {name: scores[name] for name in ("a", "c") if not np.isnan(scores[name])}
        assert one.scores == pytest.approx(wanted)
    again = KnnEstimator.from_state(fitted.state())
    assert again.reasons(asked, "a", "c").neighbours == found


def test_the_weights_of_all_neighbours_are_shares(
    table: OutcomeTable, features: FeatureBatch
) -> None:
    fitted = KnnEstimator(k=5).fit(features, table, np.random.default_rng(0))
    found = fitted.reasons(features.take(np.array([0])), "a", "b").neighbours
    assert sum(one.weight for one in found) == pytest.approx(1)
    assert [one.weight for one in found] == sorted((one.weight for one in found), reverse=True)


def test_no_prompt_is_in_the_reasons_or_in_the_state(
    table: OutcomeTable, features: FeatureBatch
) -> None:
    fitted = KnnEstimator(k=5).fit(features, table, np.random.default_rng(0))
    assert "statute" not in repr(fitted.reasons(features.take(np.array([0])), "a", "b"))
    for array in fitted.state()[1].values():
        assert b"statute" not in array.tobytes()


@pytest.mark.parametrize("named", [True, False], ids=["words", "dimensions"])
def test_shares_of_a_linear_difference_sum_to_it_exactly(table: OutcomeTable, named: bool) -> None:
    encoder = TfidfSvdEncoder(16) if named else HashingEncoder(32)
    featurizer = Featurizer(encoder).fit(TEXTS, np.random.default_rng(0))
    fitted = RidgeEstimator(3.0).fit(featurizer.transform(TEXTS), table, np.random.default_rng(0))
    for text in ("a statute in court, twice a STATUTE!", "unheard of", "", "wave 7\nfield"):
        asked = featurizer.transform([text])
        line = fitted.reasons(asked, "a", "b").linear
        assert line is not None
        expected = line.baseline + line.slope_D @ (asked.vectors_ND[0] - line.mean_D)
        found = why(fitted, featurizer.encoder, asked, "a", "b")
        total = found.baseline + sum(one.points for one in found.contributions)
        assert total == pytest.approx(expected, abs=1e-6)
        quality_A = fitted.predict(asked).quality_NA[0]
        if quality_A.min() > 0 and quality_A.max() < 1:
            assert total == pytest.approx(quality_A[0] - quality_A[1], abs=1e-6)


def test_a_word_that_tells_the_experts_apart_is_named(
    table: OutcomeTable, featurizer: Featurizer, features: FeatureBatch
) -> None:
    fitted = RidgeEstimator(1.0).fit(features, table, np.random.default_rng(0))
    asked = featurizer.transform(["the court"])
    points = {
        one.name: one.points
        for one in why(fitted, featurizer.encoder, asked, "a", "b").contributions
    }
    assert points["court"] > 0.05
    line = fitted.reasons(asked, "a", "b").linear
    assert line is not None
    swapped = replace(line, slope_D=-line.slope_D)
    assert {one.name: -one.points for one in contributions(swapped, featurizer.encoder, asked)} == (
        pytest.approx(points)
    )


def test_tasks_give_back_what_is_expected(
    table: OutcomeTable, featurizer: Featurizer, features: FeatureBatch
) -> None:
    fitted = CategoryEstimator().fit(features, table, np.random.default_rng(0))
    for text in ("court statute law", "", "zzz"):
        asked = featurizer.transform([text])
        regions = fitted.reasons(asked, "a", "b").regions
        quality_A = fitted.predict(asked).quality_NA[0]
        for expert, expected in zip("ab", quality_A, strict=False):
            mixed = sum(one.share * one.quality[expert] for one in regions)
            assert mixed == pytest.approx(expected)
    asked = featurizer.transform(["court statute law"])
    assert fitted.reasons(asked, "a", "b").regions[0].name == SUBJECTS[0]


def test_a_mean_gives_the_reasons_of_its_members_through_what_wraps_it(
    table: OutcomeTable, featurizer: Featurizer, features: FeatureBatch
) -> None:
    wrapped = CalibratedEstimator(AveragedEstimator())
    fitted = wrapped.fit(features, table, np.random.default_rng(0))
    found = reasons_of(fitted, featurizer.transform(["court statute law"]), "a", "b")
    assert found.neighbours
    assert found.regions[0].name == SUBJECTS[0]


def test_of_a_mixture_a_linear_member_explains_its_share() -> None:
    line = Linear(np.array([1.0, -2.0]), np.array([0.5, 0.5]), 0.2)
    found = merged([Reasons(), Reasons(linear=line)], [0.6, 0.25]).linear
    assert found is not None
    np.testing.assert_allclose(found.slope_D, [0.25, -0.5])
    assert found.baseline == pytest.approx(0.05)
    assert merged([Reasons(linear=line)], [0.0]).linear is None


def test_who_is_unknown_has_no_reasons(table: OutcomeTable, features: FeatureBatch) -> None:
    asked = features.take(np.array([0]))
    for unfitted in (KnnEstimator(k=5), RidgeEstimator(3.0), CategoryEstimator()):
        fitted = unfitted.fit(features, table, np.random.default_rng(0))
        found = reasons_of(fitted, asked, "new", "b")
        assert found.linear is None
        assert all("new" not in one.scores for one in found.neighbours)


def test_the_sentence_has_the_figures() -> None:
    told = Why(
        "a",
        "b",
        (
            Neighbour("q1", 0.91, 0.6, {"a": 1.0, "b": 0.25}),
            Neighbour("q2", 0.74, 0.4, {"a": 0.5}),
        ),
        (Region("law", 0.83, {"a": 0.71, "b": 0.42}),),
        (Contribution("court", 0.125), Contribution("(what is usual)", -0.2)),
    ).sentence()
    assert told == (
        "Because it looks like law (83%), where a has 0.71 against b has 0.42; on the 2 nearest "
        "logged queries (similarity 0.91 to 0.74) a has 0.75 against b has 0.25; most of the "
        "difference in quality comes from 'court' +0.125."
    )
    assert Why("a", "b").sentence() == ""
