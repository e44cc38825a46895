"""What the default estimator makes of its members, and what experts are worth overall."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from routers.estimators.observed import Observed, observed
from routers.estimators.stacked import StackedEstimator
from routers.estimators.standing import standing
from routers.records import FeatureBatch, Floats, OutcomeTable

MEMBERS = ("knn", "ridge")


def seen(score_NA: Floats, propensity_NA: Floats | None = None) -> Observed:
    table = table_of(score_NA, propensity_NA)
    return observed(features_of(np.ones((len(table), 2))), table)


def table_of(score_NA: Floats, propensity_NA: Floats | None = None) -> OutcomeTable:
    ids = tuple(f"q{row:04d}" for row in range(len(score_NA)))
    unknown_NA = np.full_like(score_NA, np.nan)
    return OutcomeTable(
        query_ids=ids,
        prompts=ids,
        tasks=(None,) * len(ids),
        groups=ids,
        experts=tuple(f"e{column}" for column in range(score_NA.shape[1])),
        score_NA=score_NA,
        prompt_tokens_NA=unknown_NA,
        output_tokens_NA=unknown_NA,
        cost_usd_NA=unknown_NA,
        latency_s_NA=unknown_NA,
        propensity_NA=np.ones_like(score_NA) if propensity_NA is None else propensity_NA,
    )


def features_of(vectors_ND: Floats) -> FeatureBatch:
    unit_ND = vectors_ND / np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    count = len(unit_ND)
    return FeatureBatch(("",) * count, unit_ND.astype(np.float32), np.full(count, 10.0))


def test_where_all_were_asked_all_the_standing_is_the_plain_mean() -> None:
    score_NA = np.random.default_rng(0).random((50, 4))
    np.testing.assert_allclose(standing(seen(score_NA))[0], score_NA.mean(axis=0), atol=1e-9)


def test_where_each_row_was_asked_of_one_the_standing_is_the_weighted_mean() -> None:
    rng = np.random.default_rng(1)
    score_NA = np.full((3000, 2), np.nan)
    often_N = rng.random(3000) < 0.5
    score_NA[np.arange(3000), np.where(often_N, 0, 1)] = rng.random(3000)
    outcomes = seen(score_NA)
    np.testing.assert_allclose(standing(outcomes)[0], outcomes.mean_A, atol=2e-3)


def test_easy_questions_make_nobody_better() -> None:
    rng = np.random.default_rng(2)
    easy_N1 = np.arange(4000)[:, None] % 2 == 0
    chance_NA = np.where(easy_N1, 0.9, 0.3) + np.array([0.0, 0.05, -0.05])
    score_NA = (rng.random((4000, 3)) < chance_NA).astype(np.float64)
    score_NA[1::2, 2] = np.nan  # the worst was asked easy questions only
    outcomes = seen(score_NA)
    assert outcomes.mean_A.argmax() == 2
    assert standing(outcomes)[0].argsort().tolist() == [2, 0, 1]


def test_among_many_that_few_outcomes_speak_for_the_luckiest_is_not_put_first() -> None:
    rng = np.random.default_rng(3)
    first = []
    for _ in range(30):
        score_NA = (rng.random((2000, 20)) < 0.6).astype(np.float64)
        score_NA[:, 0] = rng.random(2000) < 0.68  # the best one, and asked of everything
        score_NA[:, 1:][rng.random((2000, 19)) < 0.985] = np.nan
        outcomes = seen(score_NA)
        first.append((outcomes.mean_A.argmax() == 0, standing(outcomes)[0].argmax() == 0))
    by_mean, by_standing = np.mean(first, axis=0)
    assert by_mean < 0.3
    assert by_standing > by_mean + 0.2


def test_where_nothing_can_be_foretold_everything_goes_to_the_best_single_expert() -> None:
    rng = np.random.default_rng(4)
    score_NA = (rng.random((1500, 5)) < np.linspace(0.5, 0.6, 5)).astype(np.float64)
    table, features = table_of(score_NA), features_of(rng.normal(size=(1500, 20)))
    fitted = StackedEstimator(MEMBERS).fit(features, table, rng)
    chosen_N = fitted.predict(features_of(rng.normal(size=(500, 20)))).quality_NA.argmax(axis=1)
    assert (chosen_N == score_NA.mean(axis=0).argmax()).mean() > 0.95


def two_sides(rng: np.random.Generator, rows: int) -> tuple[FeatureBatch, OutcomeTable]:
    """Two bundles of directions; e0 is the best overall, e1 in the second bundle."""
    second_N1 = rng.random((rows, 1)) < 0.3
    centre_ND = np.where(second_N1, np.eye(12)[1], np.eye(12)[0])
    chance_NA = np.where(second_N1, [0.5, 0.9, 0.4], [0.8, 0.3, 0.4])
    score_NA = (rng.random((rows, 3)) < chance_NA).astype(np.float64)
    return features_of(centre_ND + rng.normal(scale=0.1, size=(rows, 12))), table_of(score_NA)


def test_what_can_be_foretold_is_kept() -> None:
    rng = np.random.default_rng(5)
    features, table = two_sides(rng, 600)
    fitted = StackedEstimator(MEMBERS).fit(features, table, rng)
    found = fitted.predict(features_of(np.eye(12)[:2])).quality_NA
    assert found.argmax(axis=1).tolist() == [0, 1]
    np.testing.assert_allclose(found, [[0.8, 0.3, 0.4], [0.5, 0.9, 0.4]], atol=0.12)


def test_a_request_unlike_all_others_gets_the_standing_of_the_experts() -> None:
    rng = np.random.default_rng(6)
    features, table = two_sides(rng, 600)
    fitted = StackedEstimator(MEMBERS).fit(features, table, rng)
    strange = fitted.predict(features_of(np.eye(12)[[5]] + 0.3 * np.eye(12)[[1]])).quality_NA
    mean_A = standing(seen(table.score_NA))[0]
    np.testing.assert_allclose(strange[0], mean_A, atol=1e-6)


def test_what_is_foretold_of_training_rows_knows_nothing_of_their_own_outcomes() -> None:
    rng = np.random.default_rng(7)
    score_NA = (rng.random((1000, 4)) < 0.5).astype(np.float64)
    table, features = table_of(score_NA), features_of(rng.normal(size=(1000, 3)))
    fitted = StackedEstimator(MEMBERS).fit(features, table, rng)
    unseen_NA = fitted.out_of_fold(table).quality_NA
    assert not np.isnan(unseen_NA).any()
    correlation = np.corrcoef(unseen_NA.ravel(), score_NA.ravel())[0, 1]
    assert correlation < 0.05
    # What has seen the outcomes does correlate: the test can fail.
    own = np.corrcoef(fitted._fitted[0].quality(features)[0].ravel(), score_NA.ravel())[0, 1]
    assert own > 0.1


@pytest.mark.parametrize("tasks", [("a", "b"), (None, None)])
def test_a_member_that_needs_task_labels_stays_away_where_there_are_none(
    tasks: tuple[str | None, str | None],
) -> None:
    rng = np.random.default_rng(8)
    features, table = two_sides(rng, 60)
    labels = tuple(tasks[row % 2] for row in range(60))
    labelled = OutcomeTable(
        **{name: getattr(table, name) for name in table.__slots__} | {"tasks": labels}
    )
    fitted = StackedEstimator(("category", "ridge")).fit(features, labelled, rng)
    names = [member.name for member in fitted._fitted]
    assert names == (["ridge"] if tasks[0] is None else ["category", "ridge"])


def test_what_members_say_is_mixed_as_the_formula_has_it() -> None:
    rng = np.random.default_rng(9)
    features, table = two_sides(rng, 400)
    unknown_NA = np.where(np.arange(3) == 2, np.nan, table.score_NA)
    fitted = StackedEstimator(MEMBERS).fit(features, table_of(unknown_NA), rng)
    blend, asked = fitted._blend, two_sides(rng, 50)[0]
    assert blend is not None
    assert fitted._nearness is not None
    low, high = blend.near_2
    trust_N = np.clip((fitted._nearness.near(asked.vectors_ND) - low) / (high - low), 0, 1)
    moved_MNA = [each.quality(asked)[0] - blend.standing_A for each in fitted._fitted]
    expected_NA = np.tile(blend.standing_A, (50, 1))
    for apart, level, moved_NA in zip(blend.apart_M, blend.level_M, moved_MNA, strict=True):
        mean_N1 = np.nanmean(moved_NA, axis=1, keepdims=True)
        expected_NA += trust_N[:, None] * (apart * (moved_NA - mean_N1) + level * mean_N1)
    found_NA = fitted.predict(asked).quality_NA
    expected_NA += blend.premium_A
    inner_N = (np.nan_to_num(expected_NA, nan=0.5) > 0.03).all(axis=1)
    assert inner_N.mean() > 0.9
    np.testing.assert_allclose(found_NA[inner_N], expected_NA[inner_N], atol=1e-9)
    alone = [fitted.predict(asked.take(np.array([row]))).quality_NA[0] for row in range(50)]
    np.testing.assert_allclose(alone, found_NA, atol=1e-6)


@pytest.mark.parametrize(("rows", "labels", "names"), [
    (300, ("a", "b"), ["category", "knn", "ridge"]),
    (1200, ("a", "b"), ["category", "ridge"]),
    (1200, (None, None), ["cluster", "knn", "ridge"]),
])  # fmt: skip
def test_members_that_only_take_time_stay_away(
    rows: int, labels: tuple[str | None, ...], names: list[str]
) -> None:
    rng = np.random.default_rng(10)
    features, table = two_sides(rng, rows)
    tasks = tuple(labels[row % 2] for row in range(rows))
    fitted = StackedEstimator().fit(features, replace(table, tasks=tasks), rng)
    assert [member.name for member in fitted._fitted] == names
