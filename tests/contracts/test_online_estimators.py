"""What every estimator owes its users that learns on without seeing old rows again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from routers.base import OnlineEstimator
from routers.encoders.lexical import HashingEncoder
from routers.errors import TableError
from routers.features import Featurizer
from routers.records import FeatureBatch, Floats, OutcomeTable
from routers.registry import estimator_names, make_estimator

WORDS = ("judge", "court", "cell", "enzyme", "force", "field", "king", "siege", "verse", "rhyme")
EXPERTS = ("ann", "ben", "cleo")
ONLINE = [name for name in estimator_names() if isinstance(make_estimator(name), OnlineEstimator)]
# What it takes not to forget, where forgetting is the default.
NEVER_FORGETS: dict[str, dict[str, Any]] = {
    "linucb": {"keep": 1.0},
    "thompson": {"keep": 1.0},
    "online": {"keep": 1.0},
}


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def a_table(rows: int, seed: int, at: Floats | None = None) -> OutcomeTable:
    """Scores of three experts with means `at`; the prompts are random words."""
    chance = rng(seed)
    mean_A = np.array([0.8, 0.5, 0.3]) if at is None else at
    prompts = tuple(" ".join(chance.choice(WORDS, 8)) + f" {i}" for i in range(rows))
    score_NA = (chance.random((rows, len(mean_A))) < mean_A).astype(np.float64)
    unknown_NA = np.full_like(score_NA, np.nan)
    ids = tuple(f"{seed}-{i:04d}" for i in range(rows))
    return OutcomeTable(
        ids, prompts, (None,) * rows, ids, EXPERTS, score_NA,
        unknown_NA, unknown_NA, unknown_NA, unknown_NA, np.ones_like(score_NA),
    )  # fmt: skip


def only(table: OutcomeTable, column: int) -> OutcomeTable:
    """The same table when one expert alone was ever asked."""
    score_NA = np.full_like(table.score_NA, np.nan)
    score_NA[:, column] = table.score_NA[:, column]
    return replace(table, score_NA=score_NA)


def rows_of(table: OutcomeTable) -> FeatureBatch:
    return Featurizer(HashingEncoder(32)).transform(table.prompts)


def after(estimator: OnlineEstimator, *tables: OutcomeTable) -> OnlineEstimator:
    for table in tables:
        estimator = estimator.partial_fit(rows_of(table), table, rng())
    return estimator


def what_it_says(estimator: OnlineEstimator, table: OutcomeTable) -> Floats:
    found = estimator.predict(rows_of(table))
    return np.stack([found.quality_NA, found.stderr_NA])


@pytest.fixture(params=ONLINE)
def unfitted(request: pytest.FixtureRequest) -> OnlineEstimator:
    made = make_estimator(request.param)
    assert isinstance(made, OnlineEstimator)
    return made


@pytest.fixture(scope="module")
def first() -> OutcomeTable:
    return a_table(150, seed=1)


@pytest.fixture(scope="module")
def then() -> OutcomeTable:
    return a_table(60, seed=2)


def test_learning_on_leaves_the_earlier_estimator_as_it_was(
    unfitted: OnlineEstimator, first: OutcomeTable, then: OutcomeTable
) -> None:
    before = after(unfitted, first)
    said, scores = what_it_says(before, then), then.score_NA.copy()
    learned = after(before, then)
    np.testing.assert_array_equal(what_it_says(before, then), said)
    np.testing.assert_array_equal(then.score_NA, scores)
    assert not np.array_equal(what_it_says(learned, then), said)


def test_the_first_rows_are_a_first_fit(
    unfitted: OnlineEstimator, first: OutcomeTable, then: OutcomeTable
) -> None:
    fitted = unfitted.fit(rows_of(first), first, rng())
    expected = what_it_says(fitted, then)
    np.testing.assert_array_equal(what_it_says(after(unfitted, first), then), expected)


def test_two_batches_teach_what_one_does(
    unfitted: OnlineEstimator, first: OutcomeTable, then: OutcomeTable
) -> None:
    started = after(unfitted, first)
    one, other = then.take(np.arange(25)), then.take(np.arange(25, 60))
    np.testing.assert_allclose(
        what_it_says(after(started, one, other), first),
        what_it_says(after(started, then), first),
        atol=1e-9,
    )


@pytest.mark.parametrize("name", [name for name in ONLINE if name in NEVER_FORGETS])
def test_one_that_never_forgets_ends_where_a_fit_on_everything_ends(
    name: str, first: OutcomeTable, then: OutcomeTable
) -> None:
    never = make_estimator(name, **NEVER_FORGETS[name])
    assert isinstance(never, OnlineEstimator)
    unknown_NA = np.full((210, 3), np.nan)
    both = OutcomeTable(
        first.query_ids + then.query_ids, first.prompts + then.prompts, first.tasks + then.tasks,
        first.groups + then.groups, EXPERTS, np.vstack([first.score_NA, then.score_NA]),
        unknown_NA, unknown_NA, unknown_NA, unknown_NA, np.ones((210, 3)),
    )  # fmt: skip
    step_by_step = what_it_says(after(never, first, then), then)[0]
    at_once = what_it_says(never.fit(rows_of(both), both, rng()), then)[0]
    # The directions come from the first fit, so that they differ a little.
    assert np.abs(step_by_step - at_once).mean() < 0.05
    assert np.abs(step_by_step.mean(axis=0) - at_once.mean(axis=0)).max() < 0.02


def test_a_round_trip_in_mid_stream_changes_nothing_that_follows(
    unfitted: OnlineEstimator, first: OutcomeTable, then: OutcomeTable
) -> None:
    running = after(unfitted, first, then.take(np.arange(30)))
    again = type(running).from_state(running.state())
    rest = then.take(np.arange(30, 60))
    np.testing.assert_array_equal(
        what_it_says(after(again, rest), first), what_it_says(after(running, rest), first)
    )


def test_what_was_not_observed_teaches_nothing_of_quality(
    unfitted: OnlineEstimator, first: OutcomeTable, then: OutcomeTable
) -> None:
    started = after(unfitted, first)
    before, learned = started, after(started, *[only(then, 0)] * 3)
    said, says = what_it_says(before, then), what_it_says(learned, then)
    assert np.abs(says[0, :, 1:] - said[0, :, 1:]).max() < 0.05
    assert (says[1, :, 1:] >= said[1, :, 1:]).all()


def test_an_expert_that_is_first_asked_later_is_known_then_and_less_surely(
    unfitted: OnlineEstimator, first: OutcomeTable, then: OutcomeTable
) -> None:
    score_NA = first.score_NA.copy()
    score_NA[:, 2] = np.nan
    started = after(unfitted, replace(first, score_NA=score_NA))
    assert np.isnan(what_it_says(started, then)[0, :, 2]).all()
    quality_NA, stderr_NA = what_it_says(after(started, only(then, 2).take(np.arange(10))), then)
    assert np.isfinite(quality_NA).all()
    assert stderr_NA[:, 2].mean() > 1.5 * stderr_NA[:, 0].mean()


def test_the_error_of_one_that_is_no_longer_asked_grows(
    unfitted: OnlineEstimator, first: OutcomeTable, then: OutcomeTable
) -> None:
    started = after(unfitted, first)
    told = [only(a_table(200, seed=seed), 0) for seed in range(5, 10)]
    stderr_NA = what_it_says(after(started, *told), then)[1]
    assert (stderr_NA[:, 2] > 1.02 * what_it_says(started, then)[1][:, 2]).all()


def test_it_follows_an_expert_that_changes(unfitted: OnlineEstimator, first: OutcomeTable) -> None:
    changed = a_table(400, seed=3, at=np.array([0.2, 0.5, 0.9]))
    quality_NA = what_it_says(after(unfitted, first, changed), first)[0]
    mean_A = quality_NA.mean(axis=0)
    assert mean_A[2] > mean_A[1] > mean_A[0]


def test_rare_rows_weigh_more_but_not_without_bound(
    unfitted: OnlineEstimator, first: OutcomeTable
) -> None:
    rows = a_table(240, seed=4)
    right_N = rng(4).random(240) < 0.5
    score_NA, propensity_NA = np.full((240, 3), np.nan), np.ones((240, 3))
    score_NA[:, 0] = right_N
    propensity_NA[:, 0] = np.where(right_N, 0.9, 0.1)
    rarely = replace(rows, score_NA=score_NA, propensity_NA=propensity_NA)
    blank = unfitted.fit(rows_of(first), only(first, 1), rng())
    weighed = what_it_says(after(blank, rarely), first)[0, :, 0].mean()
    assert weighed == pytest.approx(0.1, abs=0.08)
    propensity_NA = np.where(right_N[:, None], 0.9, 1e-6) * np.ones((1, 3))
    rarer = replace(rarely, propensity_NA=propensity_NA)
    assert what_it_says(after(blank, rarer), first)[0, :, 0].mean() == pytest.approx(weighed)


def test_rows_about_other_experts_are_refused(
    unfitted: OnlineEstimator, first: OutcomeTable, then: OutcomeTable
) -> None:
    others = replace(then, experts=("ann", "ben", "zoe"))
    with pytest.raises(TableError, match=r"rows are about ann, ben, zoe, .* on ann, ben, cleo"):
        after(unfitted, first, others)


def test_a_malformed_row_is_refused(
    unfitted: OnlineEstimator, first: OutcomeTable, then: OutcomeTable
) -> None:
    wrong = replace(then, score_NA=then.score_NA + 1.0)
    with pytest.raises(TableError, match=r"is not in \[0, 1\]"):
        after(unfitted, first, wrong)
