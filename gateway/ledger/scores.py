"""The score that counts: outcomes are only ever added, and the newest stands."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, func, select

from gateway.ledger.tables import outcome


def latest_scores(objective: str | None = None) -> Select[Any]:
    """One row per scored decision: `decision_id` and `score`, the mean of those of the same time.

    Args:
        objective: Which outcomes count; None: all of them.
    """
    newest = select(outcome.c.decision_id, func.max(outcome.c.at).label("at"))
    if objective is not None:
        newest = newest.where(outcome.c.objective == objective)
    last = newest.group_by(outcome.c.decision_id).subquery()
    query = select(outcome.c.decision_id, func.avg(outcome.c.score).label("score")).join(
        last, (last.c.decision_id == outcome.c.decision_id) & (last.c.at == outcome.c.at)
    )
    if objective is not None:
        query = query.where(outcome.c.objective == objective)
    return query.group_by(outcome.c.decision_id)
