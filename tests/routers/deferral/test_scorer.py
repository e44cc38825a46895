"""The scorer of answers tells right from wrong on answers that it has not seen."""

from __future__ import annotations

import numpy as np
import pytest

from routers.deferral.cross_fitted import CrossFittedScorer
from routers.deferral.facts import FACTS, facts
from routers.deferral.logistic import LogisticRegression
from routers.deferral.scorer import AnswerScorer, Drafts
from routers.deferral.threshold import DeferralThreshold
from routers.errors import TableError
from routers.records import Floats

TOPICS = ("rivers", "planets", "poems", "taxes")


def world(count: int = 200) -> tuple[Drafts, Floats, list[str]]:
    """Answers that hedge are mostly wrong; one expert knows nothing of taxes."""
    rng = np.random.default_rng(0)
    prompts, answers, experts, scores = [], [], [], []
    for number in range(count):
        topic = TOPICS[int(rng.integers(4))]
        for expert in ("plain", "poet"):
            hedges = rng.uniform() < 0.4
            right = rng.uniform() < (0.2 if hedges else 0.9)
            if expert == "poet" and topic == "taxes":
                right = rng.uniform() < 0.05
            prompts.append(f"What should one know about {topic}? Case {number}.")
            words = "Maybe, I am not sure, it might be" if hedges else "It is"
            answers.append(f"{words} number {int(rng.integers(100))} for {topic}.")
            experts.append(expert)
            scores.append(float(right))
    groups = [str(row // 2) for row in range(2 * count)]
    return Drafts(tuple(prompts), tuple(answers), tuple(experts)), np.array(scores), groups


def auc(found_N: Floats, right_N: Floats) -> float:
    good, bad = found_N[right_N == 1], found_N[right_N == 0]
    return float((good[:, None] > bad[None, :]).mean() + 0.5 * (good[:, None] == bad).mean())


def test_unseen_answers_are_ranked_and_the_chance_is_about_right() -> None:
    drafts, score_N, groups = world()
    _, unseen_N = CrossFittedScorer.fit(
        drafts, score_N, groups, np.random.default_rng(0), encoder="hashing"
    )
    assert auc(unseen_N, score_N) > 0.8
    sure = unseen_N > 0.7
    assert score_N[sure].mean() == pytest.approx(unseen_N[sure].mean(), abs=0.15)


def test_scores_of_rows_it_learned_from_are_no_measure() -> None:
    """Of noise, a fit ranks its own rows well and others not at all."""
    rng = np.random.default_rng(1)
    drafts, _, groups = world(150)
    noise_N = np.where(rng.uniform(size=len(drafts)) < 0.5, 1.0, 0.0)
    own_N = AnswerScorer.fit(drafts, noise_N, rng, encoder="hashing").scores(drafts)
    _, unseen_N = CrossFittedScorer.fit(drafts, noise_N, groups, rng, encoder="hashing")
    assert auc(own_N, noise_N) > auc(unseen_N, noise_N) + 0.1
    assert auc(unseen_N, noise_N) < 0.6


def test_it_comes_back_from_its_state() -> None:
    drafts, score_N, _ = world(60)
    scorer = AnswerScorer.fit(drafts, score_N, np.random.default_rng(0))
    again = AnswerScorer.from_state(scorer.state())
    assert (again.scores(drafts) == scorer.scores(drafts)).all()
    one = scorer.score(drafts.prompts[0], drafts.answers[0], "plain")
    assert one == pytest.approx(scorer.scores(drafts)[0])


def test_what_serves_scores_new_answers_as_it_scored_those_that_thresholds_are_fitted_to() -> None:
    drafts, score_N, groups = world(800)
    known, new = drafts.take(range(800)), drafts.take(range(800, 1600))
    rng = np.random.default_rng(0)
    scorer, unseen_N = CrossFittedScorer.fit(
        known, score_N[:800], groups[:800], rng, encoder="hashing"
    )
    served_N = scorer.scores(new)
    for share in (0.2, 0.5, 0.8):
        threshold = DeferralThreshold.of_share(unseen_N, share)
        assert threshold.deferred(served_N).mean() == pytest.approx(share, abs=0.05)
    again = CrossFittedScorer.from_state(scorer.state())
    assert (again.scores(new) == served_N).all()
    one = scorer.score(new.prompts[3], new.answers[3], new.experts[3])
    assert one == pytest.approx(served_N[3])


def test_an_expert_that_it_does_not_know_is_judged_between_those_it_knows() -> None:
    drafts, score_N, _ = world(150)
    scorer = AnswerScorer.fit(drafts, score_N, np.random.default_rng(0))
    prompt, answer = "What should one know about taxes? Case 7.", "It is number 7 for taxes."
    known = sorted(scorer.score(prompt, answer, expert) for expert in ("plain", "poet"))
    assert known[0] < scorer.score(prompt, answer, "newcomer") < known[1]


def test_without_answers_there_is_no_scorer() -> None:
    with pytest.raises(TableError, match="no graded answer"):
        AnswerScorer.fit(Drafts((), (), ()), np.zeros(0), np.random.default_rng(0))


def test_facts_of_answers() -> None:
    answers = [
        "```python\ndef f():\n    return 1\n```",
        "```python\ndef f(:\n```",
        "I'm sorry, I cannot help.",
        '{"a": 1}',
        "B",
        "",
    ]
    found = {name: column.tolist() for name, column in zip(
        FACTS, facts(["Write f"] * len(answers), answers).T, strict=True
    )}  # fmt: skip
    assert found["has code"] == [1, 1, 0, 0, 0, 0]
    assert found["parses"] == [1, 0, 0, 0, 0, 0]
    assert found["refuses"][2] == 1
    assert sum(found["refuses"]) == 1
    assert found["is JSON"] == [0, 0, 0, 1, 0, 0]
    assert found["one word"][3:] == [0, 1, 1]
    assert np.isfinite(facts([""], [""])).all()


def test_a_line_finds_the_planted_slope() -> None:
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(20_000, 2)) * np.array([2.0, 0.1])
    chance_N = 1 / (1 + np.exp(-(0.5 + 1.0 * rows[:, 0] - 10.0 * rows[:, 1])))
    line = LogisticRegression.fit(rows, chance_N, 1e-3)
    assert line.slope_F / line.spread_F == pytest.approx([1.0, -10.0], rel=0.01)
    assert line.predict(rows) == pytest.approx(chance_N, abs=0.005)
    sure = LogisticRegression.fit(rows[:50], np.ones(50))
    assert (sure.predict(rows[:50]) > 0.99).all()
