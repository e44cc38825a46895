"""Auditions choose who solves, not who guesses, and nearly the best set."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from routers.allocation.audition import AuditionRules, audition, shrunk
from routers.errors import TableError
from routers.records import Floats


def test_a_guesser_is_never_chosen_over_a_solver_that_scored_the_same() -> None:
    right_N = np.array([1, 1, 1, 0, 1, 0, 1, 1], dtype=np.float64)
    chosen = []
    for seed in range(50):
        rng = np.random.default_rng(seed)
        score_NA = np.column_stack([rng.permutation(right_N) for _ in range(4)])
        # Three guess among four choices, one knows; all were right as often.
        doubt_NA = np.full(score_NA.shape, np.log(4))
        doubt_NA[:, 2] = rng.uniform(0.05, 0.5, len(right_N))
        found = audition("abcd", score_NA, doubt_NA, rules=AuditionRules(1), rng=rng, resamples=0)
        chosen.append(found.chosen)
    assert set(chosen) == {(2,)}


def test_luck_alone_covers_little() -> None:
    """A guesser that was right just where the solver was not adds a quarter of each, no more."""
    score_NA = np.array([[1, 0], [1, 0], [1, 0], [0, 1], [0, 1]], dtype=np.float64)
    doubt_NA = np.column_stack([np.zeros(5), np.full(5, np.log(4))])
    found = audition("ab", score_NA, doubt_NA, rng=np.random.default_rng(0))
    assert found.covered == pytest.approx((3.0, 0.5))


@pytest.mark.parametrize("most", [2, 3])
@pytest.mark.parametrize("seed", range(10))
def test_greedy_is_within_its_bound_of_the_best_set(most: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    score_NA = rng.integers(2, size=(12, 7)).astype(np.float64)
    doubt_NA = rng.exponential(0.5, score_NA.shape)
    rules = AuditionRules(most)
    found = audition("abcdefg", score_NA, doubt_NA, rules=rules, rng=rng, resamples=0)
    credit_NA = score_NA * np.exp(-doubt_NA)

    def worth(members: tuple[int, ...]) -> float:
        bonus = np.maximum(found.standing_A[list(members)], 0).sum()
        return float(credit_NA[:, list(members)].max(axis=1).sum() + bonus)

    best = max(worth(each) for each in combinations(range(7), most))
    assert (1 - 1 / np.e) * best <= worth(found.chosen) <= best + 1e-9


def test_experts_that_err_in_other_places_go_together() -> None:
    """The second best alone is worth less beside the best than one that knows what it does not."""
    score_NA = np.zeros((12, 3))
    score_NA[:8, 0] = score_NA[:7, 1] = score_NA[8:, 2] = 1
    found = audition("abc", score_NA, rules=AuditionRules(2), rng=np.random.default_rng(0))
    assert found.chosen == (0, 2)
    assert found.covered == (8.0, 4.0)


def test_nobody_joins_who_adds_nothing() -> None:
    score_NA = np.array([[1, 1, 0], [1, 0, 0]], dtype=np.float64)
    found = audition("abc", score_NA, rng=np.random.default_rng(0))
    assert found.chosen == (0,)


def test_who_tells_no_log_probabilities_is_taken_for_average() -> None:
    score_NA = np.ones((4, 2))
    doubt_NA = np.column_stack([np.full(4, 0.4), np.full(4, np.nan)])
    found = audition("ab", score_NA, doubt_NA, rng=np.random.default_rng(0))
    assert found.standing_A[0] == pytest.approx(found.standing_A[1])
    assert np.isnan(found.doubt_A[1])


def test_means_are_drawn_together_as_far_as_chance_explains_them() -> None:
    rng = np.random.default_rng(1)
    alike_NA = (rng.random((20, 8)) < 0.5).astype(np.float64)
    apart_NA = np.column_stack([np.zeros(20), np.ones(20)])
    assert np.ptp(shrunk(alike_NA)) < 0.5 * np.ptp(alike_NA.mean(axis=0))
    assert np.ptp(shrunk(apart_NA)) > 0.9
    unasked_NA = np.column_stack([apart_NA, np.full(20, np.nan)])
    assert shrunk(unasked_NA)[2] == pytest.approx(0.5)


def test_shrinkage_comes_nearer_to_the_truth() -> None:
    """Over many pools of ten answers each, as the books on empirical Bayes say."""
    rng, plain, drawn = np.random.default_rng(2), 0.0, 0.0
    for _ in range(200):
        truth_A = rng.beta(6, 4, 12)
        score_NA = (rng.random((10, 12)) < truth_A).astype(np.float64)
        plain += float(np.mean((score_NA.mean(axis=0) - truth_A) ** 2))
        drawn += float(np.mean((shrunk(score_NA) - truth_A) ** 2))
    assert drawn < 0.7 * plain


def test_five_shots_are_told_to_be_shaky_and_fifty_to_be_firm() -> None:
    truth_A = np.array([0.8, 0.55, 0.5, 0.45])

    def firmness(shots: int) -> float:
        rng = np.random.default_rng(3)
        shares = []
        for _ in range(20):
            score_NA = (rng.random((shots, 4)) < truth_A).astype(np.float64)
            found = audition("abcd", score_NA, rules=AuditionRules(1), rng=rng, resamples=50)
            shares.append(found.stability_A[found.chosen[0]])
        return float(np.mean(shares))

    few, many = firmness(5), firmness(50)
    assert few < 0.8 < many
    assert many > few + 0.15


@pytest.mark.parametrize(
    ("score_NA", "doubt_NA", "message"),
    [
        (np.array([[1.0, 0.0]]), None, "at least 2 graded"),
        (np.array([[1.5], [0.0]]), None, r"\[0, 1\]"),
        (np.array([[1.0], [0.0]]), np.array([[-1.0], [0.0]]), "below 0"),
        (np.array([[1.0], [0.0]]), np.array([[1.0]]), "must agree"),
    ],
    ids=["one row", "score", "doubt", "shape"],
)
def test_what_can_not_be_judged_is_refused(
    score_NA: Floats, doubt_NA: Floats | None, message: str
) -> None:
    with pytest.raises(TableError, match=message):
        audition("ab"[: score_NA.shape[1]], score_NA, doubt_NA, rng=np.random.default_rng(0))
