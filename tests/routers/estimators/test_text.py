"""The text regressor (A6), and the labels of HybridLLM and BEST-Route (B11)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from routers.encoders.lexical import HashingEncoder
from routers.errors import MissingExtraError
from routers.estimators.observed import Observed
from routers.estimators.text import TextEstimator
from routers.features import Featurizer
from routers.records import FeatureBatch, Floats, OutcomeTable
from routers.training.matching import Matches

TEXTS = ("the court hears the appeal", "an enzyme splits the protein", "a wave in the field")


def seen(score_NA: Floats) -> Observed:
    known_NA = ~np.isnan(score_NA)
    return Observed(np.nan_to_num(score_NA), known_NA.astype(float), np.nanmean(score_NA, axis=0))


def a_world(rows: int) -> tuple[FeatureBatch, OutcomeTable, Floats]:
    """Each expert is right nearly always on one topic; the vectors say nothing of the topic."""
    rng = np.random.default_rng(0)
    topic_N = np.arange(rows) % 3
    texts = tuple(f"{TEXTS[topic]} {rng.integers(100)}" for topic in topic_N)
    right_NA = np.where(topic_N[:, None] == np.arange(3), 0.95, 0.3)
    score_NA = (rng.random((rows, 3)) < right_NA).astype(np.float64)
    ids = tuple(f"q{row:03d}" for row in range(rows))
    nothing_NA = np.full((rows, 3), np.nan)
    table = OutcomeTable(
        ids,
        texts,
        (None,) * rows,
        ids,
        ("ann", "ben", "cleo"),
        score_NA,
        nothing_NA,
        nothing_NA,
        nothing_NA,
        nothing_NA,
        np.ones((rows, 3)),
    )
    blind = Featurizer(HashingEncoder(2)).transform([""] * rows)
    return FeatureBatch(texts, blind.vectors_ND, blind.prompt_tokens_N), table, right_NA


def learned(labels: str, features: FeatureBatch, table: OutcomeTable) -> TextEstimator:
    unfitted = TextEstimator(labels, epochs=5, most_tokens=10)
    return unfitted.fit(features, table, np.random.default_rng(0))


def test_it_reads_the_text_itself_and_finds_the_optimal_expert() -> None:
    features, table, right_NA = a_world(270)
    known, unseen = np.arange(240), np.arange(240, 270)
    fitted = learned("score", features.take(known), table.take(known))
    quality_NA = fitted.predict(features.take(unseen)).quality_NA
    assert (quality_NA.argmax(axis=1) == right_NA[unseen].argmax(axis=1)).mean() > 0.9
    assert np.abs(quality_NA - right_NA[unseen]).mean() < 0.15


def test_a_match_is_least_likely_where_the_reference_is_at_home() -> None:
    features, table, _ = a_world(240)
    quality_NA = learned("det", features, table).predict(features).quality_NA
    reference = int(table.score_NA.mean(axis=0).argmax())
    at_home_N = np.arange(240) % 3 == reference
    for other in {0, 1, 2} - {reference}:
        away = quality_NA[~at_home_N, other].mean()
        assert quality_NA[at_home_N, other].mean() < away - 0.15
    assert quality_NA[:, reference].std() < 0.05


def test_without_torch_it_says_what_to_install(forget_torch: Callable[[], None]) -> None:
    features, table, _ = a_world(12)
    forget_torch()
    with pytest.raises(MissingExtraError, match=r"'text' needs the extra.*\[torch\]"):
        TextEstimator().fit(features, table, np.random.default_rng(0))


def test_a_deterministic_match_is_a_score_not_below_the_references() -> None:
    outcomes = seen(np.array([[0.2, 0.9], [0.7, 0.6], [0.5, 0.5], [np.nan, 1.0], [0.1, np.nan]]))
    matches = Matches.of(outcomes, "det")
    assert matches.reference == 1
    assert matches.label_NA[:3, 0].tolist() == [0, 1, 1]
    assert matches.weight_NA[:, 0].tolist() == [1, 1, 1, 0, 0]


def test_the_margin_is_where_labels_differ_most_between_queries() -> None:
    rng = np.random.default_rng(1)
    strong_N = np.full(200, 0.9)
    weak_N = 0.9 - 0.3 - 0.1 * rng.random(200)
    matches = Matches.of(seen(np.column_stack([weak_N, strong_N])), "trans")
    # No weak answer is within .3 of the strong one, and all are within .4.
    assert matches.margin == pytest.approx(0.35)
    assert 0.4 < matches.label_NA[:, 0].mean() < 0.6
    assert Matches.of(seen(np.column_stack([weak_N, strong_N])), "det").label_NA[:, 0].max() == 0


def test_a_probable_match_is_the_share_of_pairs_of_samples_that_match() -> None:
    rng = np.random.default_rng(2)
    shares_A = np.array([0.3, 0.8])
    matches = Matches.of(seen(np.tile(shares_A, (2, 1))), "prob")
    samples_NA = rng.random((100_000, 2)) < shares_A
    counted = (samples_NA[:, 0] >= samples_NA[:, 1]).mean()
    assert matches.label_NA[0, 0] == pytest.approx(counted, abs=0.01)
    assert matches.label_NA[:, 1].tolist() == [1, 1]


@pytest.mark.parametrize("kind", ["det", "prob", "trans"])
def test_arms_of_one_answer_are_labelled_as_hybrid_llm_labels_models(kind: str) -> None:
    rng = np.random.default_rng(3)
    weak_N, strong_N = rng.random(300) * 0.7, 0.3 + rng.random(300) * 0.7
    best_of_3_N = np.maximum(weak_N, rng.random(300) * 0.6)
    alone = Matches.of(seen(np.column_stack([weak_N, strong_N])), kind)
    arms = Matches.of(seen(np.column_stack([weak_N, best_of_3_N, strong_N])), kind)
    if kind != "trans":
        np.testing.assert_array_equal(arms.label_NA[:, [0, 2]], alone.label_NA)
    assert (arms.label_NA[:, 1] >= arms.label_NA[:, 0]).all()


def test_an_unknown_kind_of_label_is_refused() -> None:
    with pytest.raises(
        ValueError, match="unknown kind of label 'soft'; known are det, prob, trans"
    ):
        Matches.of(seen(np.ones((2, 2))), "soft")
