"""Margin and mass of a mixture are found where they were planted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from eval.compositions.seating import fit_seats
from eval.errors import ComparisonError
from routers.allocation.seats import SeatRules
from routers.records import Floats, OutcomeTable

KNN = "knn+tfidf"
DUO = {"duo": ("a", "b")}
TOPICS = {"rivers": 0.0, "stars": 0.1, "poems": 0.4}
"""By how much b is worse than a, who is right on 80 % of every topic."""


def outcomes(topics: Sequence[str], right: Mapping[str, Floats | float]) -> OutcomeTable:
    """Questions, and how often each column is right; a single answer costs $1, a mixture's $3."""
    rng, shape = np.random.default_rng(0), (len(topics), len(right))
    right_NA = np.column_stack([np.broadcast_to(each, shape[:1]) for each in right.values()])
    ids = tuple(f"{row:04d}" for row in range(shape[0]))
    return OutcomeTable(
        ids,
        tuple(f"Tell me about {topic} {topic} {topic}." for topic in topics),
        (None,) * shape[0],
        ids,
        tuple(right),
        (rng.uniform(size=shape) < right_NA).astype(float),
        np.full(shape, 20.0),
        np.full(shape, 10.0),
        np.tile([1.0 if len(name) == 1 else 3.0 for name in right], (shape[0], 1)),
        np.full(shape, np.nan),
        np.ones(shape),
    )


@pytest.fixture(scope="module")
def near_and_far() -> OutcomeTable:
    """The mixture is .15 better than a where b is at most .1 worse, and .2 worse where b is .4."""
    topics = [list(TOPICS)[row % 3] for row in range(360)]
    gap_N = np.array([TOPICS[topic] for topic in topics])
    duo_N = np.where(gap_N <= 0.1, 0.95, 0.6)
    return outcomes(topics, {"a": 0.8, "duo": duo_N, "b": 0.8 - gap_N})


def test_a_margin_that_pays_is_found_and_keeps_paying_on_other_queries(
    near_and_far: OutcomeTable,
) -> None:
    found = fit_seats(near_and_far, ("a", "b"), DUO, estimator=KNN)
    assert 0.1 < found.rules.margin < 0.4
    # Mixed on two topics of three: .95, .95 and .8.
    assert found.fitted[0] == pytest.approx(0.9, abs=0.03)
    assert found.fitted[0] > found.default[0] + 0.02


def test_drafts_that_cost_more_than_they_bring_are_not_asked_for(
    near_and_far: OutcomeTable,
) -> None:
    found = fit_seats(near_and_far, ("a", "b"), DUO, estimator=KNN, worth_usd=1.0)
    assert found.fitted[0] == pytest.approx(0.8, abs=0.05)
    assert found.fitted[1] < 1.1


def test_a_mass_that_pays_is_found() -> None:
    """A third one who is seldom the best pays, so nobody near is to be left out."""
    right = {"a": 0.8, "b": 0.76, "c": 0.7, "duo": 0.8, "ac": 0.8, "bc": 0.8, "trio": 0.95}
    teams = {**DUO, "ac": ("a", "c"), "bc": ("b", "c"), "trio": ("a", "b", "c")}
    found = fit_seats(outcomes(["seas"] * 200, right), ("a", "b", "c"), teams, estimator=KNN)
    assert found.rules.mass == 1
    assert found.rules.margin >= 0.1
    assert found.fitted[0] > found.default[0] + 0.05


def test_without_a_gain_beyond_chance_the_usual_rules_stay_and_need_their_teams() -> None:
    table = outcomes(["seas"] * 200, {"a": 0.7, "b": 0.7, "duo": 0.7})
    assert fit_seats(table, ("a", "b"), DUO, estimator=KNN).rules == SeatRules()
    with pytest.raises(ComparisonError, match="--team NAME=a,b"):
        fit_seats(table, ("a", "b"), {}, estimator=KNN)
    with pytest.raises(ComparisonError, match="none of the experts"):
        fit_seats(table, ("a", "b"), {"duo": ("a", "z")}, estimator=KNN)
