"""Whom compositions asked for their answers, and how often."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Mapping

from sqlalchemy import Engine, func, select
from sqlalchemy.exc import SQLAlchemyError

from experts.compose.cards import Made
from gateway.errors import LedgerError
from gateway.ledger.database import opened, reader
from gateway.ledger.tables import attempt, attempt_result, decision

_log = logging.getLogger(__name__)
_RECENT = 20_000
_BILLED = ("ok", "cancelled")


def calls_made(engine: Engine, compositions: Collection[str]) -> dict[str, Made]:
    """Calls per child of the newest answers, by the composition that made them.

    Compositions that are children count too, by their own ids. A call that was not made, or failed,
    costs nothing and is none.

    Args:
        engine: The ledger.
        compositions: Ids of those that requests may be sent to.
    """
    recent = select(decision.c.decision_id, decision.c.expert_id)
    newest = recent.order_by(decision.c.at.desc()).limit(_RECENT).subquery()
    theirs = select(newest.c.decision_id).where(newest.c.expert_id.in_(compositions))
    parent, child = attempt.alias("parent"), attempt.alias("child")
    ended, called = attempt_result.alias("ended"), attempt_result.alias("called")
    query = (
        select(parent.c.expert_id, parent.c.attempt_id, child.c.expert_id, func.count())
        .join(child, child.c.parent_id == parent.c.attempt_id)
        .join(ended, ended.c.attempt_id == parent.c.attempt_id)
        .join(called, called.c.attempt_id == child.c.attempt_id)
        .where(
            parent.c.decision_id.in_(theirs),
            child.c.decision_id == parent.c.decision_id,
            ended.c.status == "ok",
            called.c.status.in_(_BILLED),
        )
        .group_by(parent.c.expert_id, parent.c.attempt_id, child.c.expert_id)
    )
    answers: dict[str, set[str]] = {}
    calls: dict[str, Counter[str]] = {}
    with reader(engine).connect() as connection:
        for composition, attempt_id, asked, count in connection.execute(query):
            answers.setdefault(composition, set()).add(attempt_id)
            calls.setdefault(composition, Counter())[asked] += count
    return {name: Made(len(answers[name]), calls[name]) for name in calls}


def calls_known(url: str, compositions: Collection[str]) -> Mapping[str, Made]:
    """`calls_made` of the ledger at `url`; nothing while it can't be read."""
    if not compositions:
        return {}
    try:
        with opened(url) as engine:
            return calls_made(engine, compositions)
    except (LedgerError, SQLAlchemyError) as error:
        _log.warning("whom compositions asked can't be read, so their shape says it: %s", error)
        return {}
