"""What an estimator learns from, and how its choices are judged."""

from __future__ import annotations

import numpy as np
import pytest

from routers.estimators.observed import choice_error, observed
from routers.records import FeatureBatch, Floats, OutcomeTable

NAN = float("nan")


def table_of(score_NA: Floats, propensity_NA: Floats | None = None) -> OutcomeTable:
    ids = tuple(f"q{i}" for i in range(len(score_NA)))
    unknown_NA = np.full_like(score_NA, NAN)
    asked_NA = np.ones_like(score_NA) if propensity_NA is None else propensity_NA
    experts = tuple("abc"[: score_NA.shape[1]])
    none = (None,) * len(ids)
    return OutcomeTable(
        ids, ids, none, ids, experts, score_NA, *(unknown_NA,) * 4, propensity_NA=asked_NA
    )


def features_of(table: OutcomeTable) -> FeatureBatch:
    count = len(table)
    return FeatureBatch(table.prompts, np.zeros((count, 2), np.float32), np.ones(count))


def test_means_weigh_each_row_by_its_propensity() -> None:
    table = table_of(np.array([[1.0], [0.0]]), np.array([[0.5], [0.25]]))
    outcomes = observed(features_of(table), table)
    assert outcomes.mean_A[0] == pytest.approx(2 / 6)
    assert outcomes.weight_NA.mean() == pytest.approx(1)


def test_a_row_is_never_weighed_more_than_fifty_times() -> None:
    table = table_of(np.array([[1.0], [0.0]]), np.array([[1.0], [1e-6]]))
    assert observed(features_of(table), table).mean_A[0] == pytest.approx(1 / 51)


def test_unobserved_scores_have_no_weight_and_a_silent_expert_no_mean() -> None:
    table = table_of(np.array([[1.0, NAN], [NAN, NAN]]))
    outcomes = observed(features_of(table), table)
    np.testing.assert_array_equal(outcomes.weight_NA, [[1, 0], [0, 0]])
    assert outcomes.mean_A[0] == 1
    assert np.isnan(outcomes.mean_A[1])


def test_the_propensity_of_what_was_not_observed_is_not_looked_at() -> None:
    table = table_of(np.array([[1.0, NAN]]), np.array([[1.0, NAN]]))
    assert observed(features_of(table), table).mean_A[0] == 1


def test_an_error_that_all_experts_share_settles_no_choice() -> None:
    table = table_of(np.array([[1.0, 0.0], [0.5, 0.5]]))
    outcomes = observed(features_of(table), table)
    shifted_NA = table.score_NA * 0.5 + np.array([[0.25], [0.0]])
    assert choice_error(table.score_NA + 0.1, outcomes) == pytest.approx(0)
    assert choice_error(shifted_NA, outcomes) == pytest.approx(0.25**2 / 2)


def test_where_one_expert_was_observed_its_error_counts_as_it_is() -> None:
    table = table_of(np.array([[1.0, NAN], [NAN, 0.0]]))
    outcomes = observed(features_of(table), table)
    assert choice_error(np.array([[0.9, 0.3], [0.3, 0.3]]), outcomes) == pytest.approx(0.05)


def test_what_is_not_predicted_is_not_judged() -> None:
    table = table_of(np.array([[1.0, 1.0]]))
    outcomes = observed(features_of(table), table)
    assert choice_error(np.array([[0.5, NAN]]), outcomes) == pytest.approx(0.25)
