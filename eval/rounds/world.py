"""A simulated pool: three experts of known skill and price, three kinds of question.

Whoever is asked the question in its words says the answer with the probability of its skill, says
that it doesn't know, or is wrong. The answer to a question is drawn afresh for each, so that a
policy can learn whom to ask and what to make of it, and can't learn the answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from experts.compose.rounds.grammar import NOTHING, PUBLISHED
from routers.rounds.episodes import PaidReply, Question, Row
from routers.rounds.reward import Paid

_DIGITS = range(2, 10)
NAMES: Mapping[str, tuple[str, ...]] = {
    "capital": ("peru", "kenya", "norway", "chile", "egypt", "japan", "cuba", "ghana", "nepal",
                "italy", "spain", "greece"),
    "opposite": ("hot", "big", "fast", "old", "dark", "hard", "wet", "full", "high", "early",
                 "rich", "near"),
    "times": tuple(str(digit) for digit in _DIGITS),
}  # fmt: skip
VALUES: Mapping[str, tuple[str, ...]] = {
    "capital": ("lima", "nairobi", "oslo", "santiago", "cairo", "tokyo", "havana", "accra",
                "kathmandu", "rome", "madrid", "athens"),
    "opposite": ("cold", "little", "slow", "young", "light", "soft", "dry", "empty", "low", "late",
                 "poor", "far"),
    "times": tuple(str(n) for n in sorted({a * b for a in _DIGITS for b in _DIGITS})),
}  # fmt: skip
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Simulated:
    """One expert.

    Attributes:
        usd_per_mtok: Price of a million tokens that it writes.
        tokens: How many it writes to an answer.
        right: Kind of question to the probability that it says the answer.
        unsure: Share of the other cases in which it says that it doesn't know.
    """

    usd_per_mtok: float
    tokens: int
    right: Mapping[str, float]
    unsure: float = 0.5


EXPERTS: Mapping[str, Simulated] = {
    "small": Simulated(0.1, 20, {"capital": 0.35, "opposite": 0.9, "times": 0.1}),
    "large": Simulated(1.0, 40, {"capital": 0.95, "opposite": 0.9, "times": 0.2}),
    "calculator": Simulated(0.02, 5, {"capital": 0.0, "opposite": 0.0, "times": 1.0}, unsure=1.0),
}


def words() -> tuple[str, ...]:
    """Every word of this world, sorted."""
    tags = [tag for word in PUBLISHED.all for tag in (f"<{word}>", f"</{word}>")]
    values = [value for group in VALUES.values() for value in group]
    names = [name for group in NAMES.values() for name in group]
    rest = [":", "?", "of", UNKNOWN, NOTHING.lower(), *NAMES, *EXPERTS]
    return tuple(sorted({*tags, *values, *names, *rest}))


def draw_rows(count: int, rng: np.random.Generator) -> list[Row]:
    """So many questions, each with its `kind`, `question` and the `answers` accepted."""
    rows: list[Row] = []
    for number in range(count):
        kind = str(rng.choice(list(NAMES)))
        if kind == "times":
            first, second = rng.choice(NAMES[kind], 2)
            question = f"{first} times {second}"
        else:
            question = f"{kind} of {rng.choice(NAMES[kind])}"
        answer = str(rng.choice(VALUES[kind]))
        rows.append({"row": number, "kind": kind, "question": question, "answers": [answer]})
    return rows


class SimulatedPool:
    """Answers as `EXPERTS` do.

    Args:
        rng: What skill is drawn by.
        experts: Who is there.
    """

    def __init__(
        self, rng: np.random.Generator, experts: Mapping[str, Simulated] = EXPERTS
    ) -> None:
        self._rng = rng
        self.experts = experts

    def ask(self, questions: Sequence[Question]) -> list[PaidReply]:
        return [self._reply(question) for question in questions]

    def _reply(self, question: Question) -> PaidReply:
        expert = self.experts[question.expert]
        return PaidReply(self._says(expert, question), Paid(expert.tokens, expert.usd_per_mtok))

    def _says(self, expert: Simulated, question: Question) -> str:
        row = question.row
        if question.query.rstrip(" ?") != row["question"]:
            return UNKNOWN
        if self._rng.random() < expert.right[row["kind"]]:
            return str(row["answers"][0])
        if self._rng.random() < expert.unsure:
            return UNKNOWN
        return str(self._rng.choice(VALUES[row["kind"]]))


def draw_traces(rows: Sequence[Row], rng: np.random.Generator, noise: float = 0.15) -> list[str]:
    """What a clumsy driver might have written to each question: whom it asks is chance.

    Args:
        rows: From `draw_rows`.
        rng: What experts and mishaps are drawn by.
        noise: Share of conversations with a mishap: an empty thought, an answer that nobody gave.
    """
    pool = SimulatedPool(rng)
    return [_trace(row, pool, rng, noise) for row in rows]


def _trace(row: Row, pool: SimulatedPool, rng: np.random.Generator, noise: float) -> str:
    clumsy = rng.random() < noise
    parts = [
        "<think> </think>" if clumsy and rng.random() < 0.5 else f"<think> {row['kind']} </think>"
    ]
    said = UNKNOWN
    for _ in range(2):
        expert = str(rng.choice(list(EXPERTS)))
        parts.append(f"<search> {expert} : {row['question']} </search>")
        said = pool.ask([Question(row, expert, row["question"])])[0].text
        parts.append(f"<information> {said} </information>")
        if said != UNKNOWN or rng.random() < 0.5:
            break
        parts.append(f"<think> {UNKNOWN} </think>")
    if clumsy:
        said = str(rng.choice(VALUES[row["kind"]]))
    return " ".join([*parts, f"<answer> {said} </answer>"])
