"""Graded answers as examples to learn from: the best ones, and better ones beside worse ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, groupby
from typing import Any

Message = dict[str, str]
_TINY = 1e-9


@dataclass(frozen=True, slots=True)
class GradedAnswer:
    """One answer and what is known of it.

    Attributes:
        query: Equal for answers to one question.
        prompt: The question.
        answer: What was said.
        expert: Who said it.
        score: How good it was, in [0, 1].
        second: A second opinion that settles ties, such as a judge's; None unknown.
        task: Which kind of question, None unknown.
        licence: Of the model that wrote it, as its card says; None unknown.
        cost_usd: What it cost, None unknown.
    """

    query: str
    prompt: str
    answer: str
    expert: str
    score: float
    second: float | None = None
    task: str | None = None
    licence: str | None = None
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class ExampleRules:
    """Which answers make examples.

    Attributes:
        most: Most examples per question, >= 1.
        at_least: Lowest score of an answer worth imitating; it must be above 0, too.
        margin: By how much the better of a pair must be better, > 0.
        licences: Only answers of models under these; empty: whatever their licence.
    """

    most: int = 5
    at_least: float = 0.5
    margin: float = 0.5
    licences: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if self.most < 1:
            raise ValueError(f"most must be at least 1, got {self.most!r}")
        if not 0 < self.margin <= 1:
            raise ValueError(f"margin must be in (0, 1], got {self.margin!r}")

    def licensed(self, answer: GradedAnswer) -> bool:
        """Whether its model's licence is among those that are wanted."""
        return not self.licences or answer.licence in self.licences


def best_answers(
    answers: Iterable[GradedAnswer], rules: ExampleRules
) -> Iterator[list[GradedAnswer]]:
    """The right answers to each question that has any, as `supervised` takes them."""
    for _, of_one in groupby(answers, key=lambda answer: answer.query):
        least = max(rules.at_least, _TINY)
        if good := [each for each in _distinct(of_one, rules) if each.score >= least]:
            yield good[: rules.most]


def supervised(answers: Iterable[GradedAnswer], rules: ExampleRules) -> Iterator[dict[str, Any]]:
    """Prompts with answers to imitate, in TRL's conversational prompt-completion shape.

    Per question the best by score, then second opinion, then price, then expert; each text once.
    Whatever order answers come in within a question, the examples are the same.

    Args:
        answers: Those to one question one after another.
        rules: Which to take.

    Source: Feng et al., "FusionFactory: Fusing LLM Capabilities with Multi-LLM Log Data", 2025
    (the top five correct answers per query).
    """
    for each in chain.from_iterable(best_answers(answers, rules)):
        yield {
            "prompt": _asked(each),
            "completion": _said(each),
            "expert": each.expert,
            "score": each.score,
            "task": each.task,
            "licence": each.licence,
        }


def preferences(answers: Iterable[GradedAnswer], rules: ExampleRules) -> Iterator[dict[str, Any]]:
    """Pairs of a better and a worse answer, in TRL's conversational preference shape.

    Per question those that differ most, at most `rules.most`; the better one must be good enough
    to be imitated, so that nobody learns to prefer bad to worse.

    Args:
        answers: Those to one question one after another.
        rules: Which to take; licences bind the chosen and the rejected one.
    """
    for _, of_one in groupby(answers, key=lambda answer: answer.query):
        ranked = _distinct(of_one, rules)
        pairs = [
            (better, worse)
            for place, better in enumerate(ranked)
            for worse in reversed(ranked[place + 1 :])
            if better.score >= rules.at_least and better.score - worse.score >= rules.margin
        ]
        # Sorting is stable: among equals the best of the chosen and the worst of the rejected.
        pairs.sort(key=lambda pair: pair[1].score - pair[0].score)
        for better, worse in pairs[: rules.most]:
            yield {
                "prompt": _asked(better),
                "chosen": _said(better),
                "rejected": _said(worse),
                "experts": [better.expert, worse.expert],
                "scores": [better.score, worse.score],
                "task": better.task,
                "licences": [better.licence, worse.licence],
            }


def _distinct(answers: Iterable[GradedAnswer], rules: ExampleRules) -> list[GradedAnswer]:
    """Licensed answers that say something, the best first, each text once."""
    found: dict[str, GradedAnswer] = {}
    for each in sorted(answers, key=_rank):
        text = " ".join(each.answer.casefold().split())
        if text and rules.licensed(each):
            found.setdefault(text, each)
    return list(found.values())


def _rank(answer: GradedAnswer) -> tuple[float, float, float, str, str]:
    second = 0.0 if answer.second is None else answer.second
    cost = float("inf") if answer.cost_usd is None else answer.cost_usd
    return (-answer.score, -second, cost, answer.expert, answer.answer)


def _asked(answer: GradedAnswer) -> list[Message]:
    return [{"role": "user", "content": answer.prompt}]


def _said(answer: GradedAnswer) -> list[Message]:
    return [{"role": "assistant", "content": answer.answer}]
