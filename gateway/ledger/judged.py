"""What a judge said of answers, how long those were, and scores that are worked out from that."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from sqlalchemy import Connection, Engine, select

from gateway.ledger.database import reader
from gateway.ledger.inserts import grouped, insert
from gateway.ledger.rows import Row
from gateway.ledger.tables import (
    attempt,
    attempt_result,
    decision,
    outcome,
    request,
    shadow_call,
    shadow_outcome,
    shadow_result,
)

_DONE = "ok"
_CHUNK = 500


@dataclass(slots=True)
class Opinion:
    """What one judge said of one answer.

    Attributes:
        decision_id: Of the request.
        shadow_id: The shadow call that gave the answer; None: it was delivered.
        prompt: What was asked; None where no text is kept.
        tokens: Length of the answer; NaN unknown.
        scores: The judge's newest score by objective.
        newest: Source and score that count just now, by objective, whoever gave them.
    """

    decision_id: str
    shadow_id: str | None
    prompt: str | None
    tokens: float = math.nan
    scores: dict[str, float] = field(default_factory=dict)
    newest: dict[str, tuple[str, float]] = field(default_factory=dict)

    def hear(self, objective: str, score: float, source: str, judge: str) -> None:
        """Take in the next outcome, in their order."""
        self.newest[objective] = source, score
        if source == judge:
            self.scores[objective] = score


def opinions(engine: Engine, source: str) -> list[Opinion]:
    """All that the judge of that source said, of delivered answers and of those of shadow calls.

    Args:
        engine: The ledger.
        source: As outcomes have it, such as `judge:house`.
    """
    with reader(engine).connect() as connection:
        return [*_delivered(connection, source), *_shadows(connection, source)]


def book(engine: Engine, rows: Iterable[Row]) -> int:
    """Add scores; returns how many."""
    every = list(rows)
    for start in range(0, len(every), _CHUNK):
        with engine.begin() as connection:
            insert(connection, grouped(every[start : start + _CHUNK]))
    return len(every)


def _delivered(connection: Connection, source: str) -> list[Opinion]:
    told = outcome.c
    judged = select(told.decision_id).where(told.source == source)
    found: dict[str, Opinion] = {}
    heard = (
        select(told.decision_id, request.c.prompt, told.objective, told.score, told.source)
        .join(decision, decision.c.decision_id == told.decision_id)
        .join(request, request.c.request_id == decision.c.request_id)
        .where(told.decision_id.in_(judged))
        .order_by(told.at, told.outcome_id)
    )
    for decision_id, prompt, objective, score, by in connection.execute(heard):
        opinion = found.setdefault(decision_id, Opinion(decision_id, None, prompt))
        opinion.hear(objective, score, by, source)
    lengths = (
        select(attempt.c.decision_id, attempt_result.c.output_tokens)
        .join(attempt_result, attempt_result.c.attempt_id == attempt.c.attempt_id)
        .where(
            attempt.c.decision_id.in_(judged),
            attempt.c.parent_id.is_(None),
            attempt_result.c.status == _DONE,
            attempt_result.c.output_tokens.is_not(None),
        )
        .order_by(attempt.c.ordinal)
    )
    for decision_id, tokens in connection.execute(lengths):
        found[decision_id].tokens = float(tokens)
    return list(found.values())


def _shadows(connection: Connection, source: str) -> list[Opinion]:
    told = shadow_outcome.c
    judged = select(told.call_id).where(told.source == source)
    found: dict[str, Opinion] = {}
    heard = (
        select(
            told.call_id, shadow_call.c.decision_id, request.c.prompt,
            shadow_result.c.output_tokens, told.objective, told.score, told.source,
        )
        .join(shadow_call, shadow_call.c.call_id == told.call_id)
        .join(shadow_result, shadow_result.c.call_id == told.call_id)
        .join(decision, decision.c.decision_id == shadow_call.c.decision_id)
        .join(request, request.c.request_id == decision.c.request_id)
        .where(told.call_id.in_(judged))
        .order_by(told.at, told.outcome_id)
    )  # fmt: skip
    for call_id, decision_id, prompt, tokens, objective, score, by in connection.execute(heard):
        length = math.nan if tokens is None else float(tokens)
        opinion = found.setdefault(call_id, Opinion(decision_id, call_id, prompt, length))
        opinion.hear(objective, score, by, source)
    return list(found.values())


def wins(engine: Engine, objective: str) -> dict[str, float]:
    """How shadow calls fared against what was delivered: the newest score of each, by its id."""
    told = shadow_outcome.c
    query = (
        select(told.call_id, told.score)
        .where(told.objective == objective)
        .order_by(told.at, told.outcome_id)
    )
    with reader(engine).connect() as connection:
        return {row.call_id: row.score for row in connection.execute(query)}
