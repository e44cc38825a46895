"""Blanks texts that are old enough: the only change that is ever made to a row, and of texts alone.

Prompts, answers, comments and what compositions wrote on their way become NULL; digests, counts,
costs and scores stay as they are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from sqlalchemy import ColumnElement, Engine, func, select

from gateway.ids import now
from gateway.ledger.database import reader
from gateway.ledger.tables import (
    attempt,
    attempt_trace,
    decision,
    outcome,
    request,
    request_result,
    shadow_call,
    shadow_outcome,
)
from gateway.settings.ledger import ROUTES, LedgerSettings

_BATCH = 200
_DAY_S = 86_400


def forget(
    engine: Engine,
    days_of: Mapping[str, float],
    *,
    at: float | None = None,
    progress: Callable[[int], None] = lambda _: None,
    pause_s: float = 0.0,
) -> int:
    """Blank the texts of requests that are older than their wire's days.

    Args:
        engine: The ledger.
        days_of: Wire (e.g. "openai.chat") to how long its texts are kept; others stay.
        at: The time.
        progress: Is told of so many more requests whose texts are gone.
        pause_s: How long to leave the database to others after every few requests.

    Returns:
        Of how many requests.
    """
    done = 0
    for wire, days in days_of.items():
        due = _due(wire, (now() if at is None else at) - days * _DAY_S)
        query = select(request.c.request_id).where(due).order_by(request.c.at).limit(_BATCH)
        while True:
            with reader(engine).connect() as connection:
                ids = list(connection.execute(query).scalars())
            if not ids:
                break
            _blank(engine, ids)
            done += len(ids)
            progress(len(ids))
            time.sleep(pause_s)
    return done


def count_due(engine: Engine, days_of: Mapping[str, float]) -> int:
    """How many requests `forget` would blank."""
    with reader(engine).connect() as connection:
        return sum(
            int(
                connection.execute(
                    select(func.count())
                    .select_from(request)
                    .where(_due(wire, now() - days * _DAY_S))
                ).scalar_one()
            )
            for wire, days in days_of.items()
        )


def days_by_wire(settings: LedgerSettings) -> dict[str, float]:
    """How long the texts of each wire are kept, where that has an end."""
    found = {
        wire: settings.keep_text_days_by_route.get(route, settings.keep_text_days)
        for wire, route in ROUTES.items()
    }
    return {wire: days for wire, days in found.items() if days is not None}


def _due(wire: str, until: float) -> ColumnElement[bool]:
    return request.c.prompt.is_not(None) & (request.c.at < until) & (request.c.wire == wire)


def _blank(engine: Engine, ids: list[str]) -> None:
    decided = select(decision.c.decision_id).where(decision.c.request_id.in_(ids))
    made = select(attempt.c.attempt_id).where(attempt.c.decision_id.in_(decided))
    called = select(shadow_call.c.call_id).where(shadow_call.c.decision_id.in_(decided))
    with engine.begin() as connection:
        for change in (
            request.update().where(request.c.request_id.in_(ids)).values(prompt=None),
            request_result.update().where(request_result.c.request_id.in_(ids)).values(answer=None),
            attempt_trace.update().where(attempt_trace.c.attempt_id.in_(made)).values(text=None),
            outcome.update().where(outcome.c.decision_id.in_(decided)).values(comment=None),
            shadow_outcome.update()
            .where(shadow_outcome.c.call_id.in_(called))
            .values(comment=None),
        ):
            connection.execute(change)
