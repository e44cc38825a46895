"""The score that counts: outcomes are only ever added, and the newest stands."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import BigInteger, Select, cast, func, select, union

from gateway.ledger.tables import decision, outcome, request_result

QUALITY = "quality"
"""The objective that is summed up; others stand beside it."""


def latest_scores(
    objective: str | None = None, among: Collection[str] | None = None
) -> Select[Any]:
    """One row per scored decision: `decision_id` and `score`, the mean of those of the same time.

    Args:
        objective: Which outcomes count; None: all of them.
        among: Only of these decisions; None: of all.
    """
    newest = select(outcome.c.decision_id, func.max(outcome.c.at).label("at"))
    if among is not None:
        newest = newest.where(outcome.c.decision_id.in_(among))
    if objective is not None:
        newest = newest.where(outcome.c.objective == objective)
    last = newest.group_by(outcome.c.decision_id).subquery()
    query = select(outcome.c.decision_id, func.avg(outcome.c.score).label("score")).join(
        last, (last.c.decision_id == outcome.c.decision_id) & (last.c.at == outcome.c.at)
    )
    if objective is not None:
        query = query.where(outcome.c.objective == objective)
    return query.group_by(outcome.c.decision_id)


def scores_between(start: float, end: float, moment: float) -> Select[Any]:
    """Scores of quality as they counted at `moment`, where that changed in [start, end).

    One row per who answered: `expert_id`, `scored` decisions and `newest_nano`, the sum of their
    newest scores in billionths.
    """
    meant = outcome.c.objective == QUALITY
    told = select(outcome.c.decision_id).where(meant, outcome.c.at >= start, outcome.c.at < end)
    # A score may come before the request has ended, and counts from then on.
    ended_then = (
        select(decision.c.decision_id)
        .join(request_result, request_result.c.request_id == decision.c.request_id)
        .where(request_result.c.at >= start, request_result.c.at < end)
    )
    newest = (
        select(outcome.c.decision_id, func.max(outcome.c.at).label("at"))
        .where(meant, outcome.c.decision_id.in_(union(told, ended_then)), outcome.c.at < moment)
        .group_by(outcome.c.decision_id)
        .subquery()
    )
    score = (
        select(outcome.c.decision_id, func.avg(outcome.c.score).label("score"))
        .join(
            newest,
            (newest.c.decision_id == outcome.c.decision_id) & (newest.c.at == outcome.c.at),
        )
        .where(meant)
        .group_by(outcome.c.decision_id)
        .subquery()
    )
    nano = cast(func.round(score.c.score * 1e9), BigInteger)
    return (
        select(
            request_result.c.answered_by.label("expert_id"),
            func.count().label("scored"),
            cast(func.sum(nano), BigInteger).label("newest_nano"),
        )
        .select_from(score)
        .join(decision, decision.c.decision_id == score.c.decision_id)
        .join(request_result, request_result.c.request_id == decision.c.request_id)
        .where(request_result.c.at < moment)
        .group_by(request_result.c.answered_by)
    )
