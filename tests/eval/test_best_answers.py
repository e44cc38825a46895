"""Examples are made of right answers only, each once, in one order."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.best_answers import ExampleRules, GradedAnswer, preferences, supervised


def said(answer: str, score: float, expert: str = "a", **more: object) -> GradedAnswer:
    found = GradedAnswer("q1", "Why?", answer, expert, score)
    return replace(found, **more)  # type: ignore[arg-type]


def texts(answers: list[GradedAnswer], **rules: object) -> list[str]:
    found = supervised(answers, ExampleRules(**rules))  # type: ignore[arg-type]
    return [row["completion"][0]["content"] for row in found]


answers = st.builds(
    GradedAnswer,
    query=st.just("q1"),
    prompt=st.just("Why?"),
    answer=st.sampled_from(["", "Yes", "yes", "No", "Perhaps", "So"]),
    expert=st.sampled_from("abc"),
    score=st.sampled_from([0.0, 0.5, 1.0]),
    second=st.sampled_from([None, 0.2, 0.9]),
    cost_usd=st.sampled_from([None, 0.1]),
)


@settings(deadline=None)
@given(st.lists(answers, max_size=8), st.integers(1, 3), st.sampled_from([0.0, 0.5, 1.0]))
def test_at_most_k_right_answers_each_once_and_the_best_first(
    given_answers: list[GradedAnswer], most: int, at_least: float
) -> None:
    rows = list(supervised(given_answers, ExampleRules(most, at_least)))
    assert len(rows) <= most
    scores = [row["score"] for row in rows]
    assert all(score > 0 and score >= at_least for score in scores)
    assert scores == sorted(scores, reverse=True)
    said_N = [" ".join(row["completion"][0]["content"].casefold().split()) for row in rows]
    assert len(set(said_N)) == len(said_N)
    assert "" not in said_N


@settings(deadline=None)
@given(st.lists(answers, max_size=6), st.randoms(use_true_random=False))
def test_the_order_in_which_answers_came_changes_nothing(
    given_answers: list[GradedAnswer], shuffler: object
) -> None:
    shuffled = list(given_answers)
    shuffler.shuffle(shuffled)  # type: ignore[attr-defined]
    for make in (supervised, preferences):
        once, again = make(given_answers, ExampleRules()), make(shuffled, ExampleRules())
        assert list(once) == list(again)


def test_ties_go_to_the_second_opinion_and_then_to_the_cheaper() -> None:
    tied = [said("x", 1, second=0.2), said("y", 1, second=0.9), said("z", 1, second=0.2)]
    tied[2] = replace(tied[2], cost_usd=0.01)
    assert texts(tied) == ["y", "z", "x"]


def test_only_answers_under_a_wanted_licence_are_taken() -> None:
    free, closed = said("x", 1, licence="apache-2.0"), said("y", 1, licence="closed")
    unknown = said("z", 1)
    wanted = frozenset({"apache-2.0"})
    assert texts([free, closed, unknown], licences=wanted) == ["x"]
    rules = ExampleRules(licences=wanted)
    assert list(preferences([free, said("w", 0, licence="closed")], rules)) == []


def test_pairs_differ_by_the_margin_and_the_better_one_is_good() -> None:
    rows = list(preferences([said("x", 1), said("y", 0.6), said("z", 0)], ExampleRules(margin=0.5)))
    pairs = [(row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in rows]
    assert pairs == [("x", "z"), ("y", "z")]
    bad = [said("x", 0.4), said("y", 0)]
    assert list(preferences(bad, ExampleRules(margin=0.3))) == []


def test_questions_are_kept_apart() -> None:
    other = replace(said("x", 1), query="q2", prompt="Where?")
    rows = list(supervised([said("x", 1), other], ExampleRules()))
    assert [row["prompt"][0]["content"] for row in rows] == ["Why?", "Where?"]


@pytest.mark.parametrize("rules", [{"most": 0}, {"margin": 0.0}, {"margin": 1.5}], ids=str)
def test_rules_that_make_no_sense_are_refused(rules: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        ExampleRules(**rules)  # type: ignore[arg-type]
