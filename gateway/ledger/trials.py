"""What the ledger knows of routers on trial, and what became of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Engine, func, select

from eval.promotion.canary import Failures
from experts.cards import NANO_PER_USD
from gateway.ids import now
from gateway.ledger.costs import request_costs
from gateway.ledger.database import reader
from gateway.ledger.inserts import grouped, insert
from gateway.ledger.rows import Row
from gateway.ledger.scores import QUALITY, latest_scores
from gateway.ledger.tables import (
    decision,
    outcome,
    request,
    request_result,
    router_version,
    shadow_decision,
)
from routers.records import UNEXPLORED, Floats

_FAILED = 500


@dataclass(frozen=True, slots=True, eq=False)
class TrialRows:
    """Scored requests of two versions, in the order in which they were decided.

    Attributes:
        score_N: In [0, 1].
        cost_usd_N: NaN unknown.
        tried_N: Which of them the version on trial decided.
        groups: The conversation of each, which chance gave to one version as a whole.
        failed_2: What failed of *all* requests, of the one on trial and of the other.
    """

    score_N: Floats
    cost_usd_N: Floats
    tried_N: npt.NDArray[np.bool_]
    groups: tuple[str, ...]
    failed_2: tuple[Failures, Failures]


def trial_rows(engine: Engine, router: str, tried: str, incumbent: str, since: float) -> TrialRows:
    """What came of the requests that either version decided since the trial began.

    Requests that could not have gone to the one on trial, the critical ones, are left out: they are
    others than those that chance divided.
    """
    scores = latest_scores(QUALITY).subquery()
    ended, cost_of = request_result.c, request_costs()
    query = (
        select(
            decision.c.version,
            decision.c.flags,
            decision.c.decision_id,
            request.c.session,
            ended.status,
            scores.c.score,
            cost_of.c.cost_nanousd,
            cost_of.c.cost_complete,
        )
        .join(request, request.c.request_id == decision.c.request_id)
        .join(request_result, ended.request_id == decision.c.request_id)
        .join(cost_of, cost_of.c.request_id == decision.c.request_id)
        .outerjoin(scores, scores.c.decision_id == decision.c.decision_id)
        .where(
            decision.c.router == router,
            decision.c.at >= since,
            decision.c.version.in_([tried, incumbent]),
        )
        .order_by(decision.c.at, decision.c.decision_id)
    )
    with reader(engine).connect() as connection:
        rows = [row for row in connection.execute(query) if UNEXPLORED not in row.flags]
    scored = [row for row in rows if row.score is not None]
    costs = [row.cost_nanousd / NANO_PER_USD if row.cost_complete else np.nan for row in scored]
    return TrialRows(
        np.array([row.score for row in scored], dtype=np.float64),
        np.array(costs, dtype=np.float64),
        np.array([row.version == tried for row in scored], dtype=bool),
        tuple(row.session or row.decision_id for row in scored),
        (_failed(rows, tried), _failed(rows, incumbent)),
    )


def _failed(rows: Sequence[Any], version: str) -> Failures:
    apart: dict[str, list[bool]] = {}
    for row in rows:
        if row.version == version:
            apart.setdefault(row.session or row.decision_id, []).append(row.status >= _FAILED)
    return Failures(sum(sum(own) / len(own) for own in apart.values()), len(apart))


@dataclass(frozen=True, slots=True)
class Shadowed:
    """What a version would have done on requests that another one decided."""

    decisions: int
    failed: int
    agreed: int


def shadowed(engine: Engine, router: str, version: str, since: float) -> Shadowed:
    """How often a shadowing version was asked since then, failed, and agreed with what served."""
    row = shadow_decision.c
    query = select(
        func.count(),
        func.count().filter(row.expert_id.is_(None)),
        func.count().filter(row.expert_id == row.served_expert),
    ).where(row.router == router, row.version == version, row.at >= since)
    with reader(engine).connect() as connection:
        count, failed, agreed = connection.execute(query).one()
    return Shadowed(int(count), int(failed), int(agreed))


def count_scores(engine: Engine, router: str) -> int:
    """Decisions of a router that have a score of quality, which is what is learned from."""
    query = (
        select(func.count(func.distinct(outcome.c.decision_id)))
        .join(decision, decision.c.decision_id == outcome.c.decision_id)
        .where(decision.c.router == router, outcome.c.objective == QUALITY)
    )
    with reader(engine).connect() as connection:
        return int(connection.execute(query).scalar_one())


def record_event(
    engine: Engine, router: str, version: str, event: str, of: float, why: Mapping[str, Any]
) -> None:
    """Book what became of a version; booking it again changes nothing.

    Args:
        engine: The ledger.
        router: Its name.
        version: Which.
        event: What happened, see the table.
        of: The snapshot that it belongs to: the same version may be fitted again later.
        why: The reasons, JSON-able.
    """
    key = hashlib.sha256(f"{router}\x1f{version}\x1f{event}\x1f{of}".encode()).hexdigest()[:32]
    values = {
        "event_id": f"rtv_{key}",
        "at": now(),
        "router": router,
        "version": version,
        "event": event,
        "manifest": dict(why),
    }
    with engine.begin() as connection:
        insert(connection, grouped([Row(router_version, values, once=True)]))


def events(engine: Engine, router: str, limit: int = 100) -> Sequence[Mapping[str, Any]]:
    """What became of a router's versions, the newest first."""
    row = router_version.c
    query = (
        select(row.at, row.version, row.event, row.manifest)
        .where(row.router == router)
        .order_by(row.at.desc())
        .limit(limit)
    )
    with reader(engine).connect() as connection:
        return [dict(found._mapping) for found in connection.execute(query)]
