"""Conversations of drivers from the ledger, to be imitated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Engine, select

from gateway.ledger.database import reader
from gateway.ledger.scores import latest_scores
from gateway.ledger.tables import (
    attempt,
    attempt_result,
    attempt_trace,
    decision,
    request,
    request_result,
)


def logged_traces(
    engine: Engine,
    expert: str,
    *,
    least_score: float = 1.0,
    objective: str = "quality",
    since: float = 0.0,
) -> Iterator[dict[str, Any]]:
    """Transcripts in the right format whose answers scored well, oldest first.

    Args:
        engine: The ledger.
        expert: The composition of kind `rounds`.
        least_score: Of the newest score of the decision, in [0, 1].
        objective: Which scores.
        since: Seconds since 1970.

    Yields:
        `question` (the conversation as text), `answers` (the one that was given), `transcript`,
        `score` and `decision_id`; only where all texts were kept, and the answer is its own: not
        one of several in a vote, say.
    """
    scores = latest_scores(objective, None).subquery()
    query = (
        select(
            attempt.c.attempt_id,
            decision.c.decision_id,
            request.c.prompt,
            request_result.c.answer,
            scores.c.score,
        )
        .join(decision, decision.c.decision_id == attempt.c.decision_id)
        .join(attempt_result, attempt_result.c.attempt_id == attempt.c.attempt_id)
        .join(request, request.c.request_id == decision.c.request_id)
        .join(request_result, request_result.c.request_id == request.c.request_id)
        .join(scores, scores.c.decision_id == decision.c.decision_id)
        .where(
            attempt.c.expert_id == expert,
            attempt.c.parent_id.is_(None),
            attempt_result.c.status == "ok",
            request.c.at >= since,
            request.c.prompt.is_not(None),
            request_result.c.answer.is_not(None),
            scores.c.score >= least_score,
        )
        .order_by(request.c.at, attempt.c.ordinal)
    )
    with reader(engine).connect() as connection:
        found = [dict(row._mapping) for row in connection.execute(query)]
        for row in found:
            transcript = _transcript(_steps(connection, row["attempt_id"]))
            if transcript is not None:
                yield {
                    "question": row["prompt"],
                    "answers": [row["answer"]],
                    "transcript": transcript,
                    "score": row["score"],
                    "decision_id": row["decision_id"],
                }


def _steps(connection: Any, attempt_id: str) -> list[dict[str, Any]]:
    query = (
        select(attempt_trace.c.record, attempt_trace.c.text)
        .where(attempt_trace.c.attempt_id == attempt_id)
        .order_by(attempt_trace.c.ordinal)
    )
    return [{**row.record, "text": row.text} for row in connection.execute(query)]


def _transcript(steps: Sequence[dict[str, Any]]) -> str | None:
    """What was written after the prompt; None if it broke the format or texts were not kept."""
    if not steps or steps[-1].get("fault", "none") is not None:
        return None
    if any(step.get("invalid") or not step["text"] for step in steps):
        return None
    return "\n".join(text for step in steps for text in _in_order(step["text"]))


def _in_order(text: dict[str, str]) -> list[str]:
    return [text[name] for name in ("wrote", "given") if name in text]
