"""What things cost after all corrections: what was booked, and every later difference to it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Select, Subquery, case, cast, func, select, true

from gateway.ledger.tables import attempt_result, cost_correction, request_result

DELTA_NANOUSD = cost_correction.c.new_nanousd - func.coalesce(cost_correction.c.old_nanousd, 0)
"""What one correction adds to what an attempt cost before it."""


def request_costs() -> Subquery:
    """`request_id`, `cost_nanousd` and `cost_complete` of every request that has ended."""
    grouped = (
        select(
            cost_correction.c.request_id,
            func.sum(DELTA_NANOUSD).label("delta"),
            func.max(case((cost_correction.c.completes, 1), else_=0)).label("completes"),
        )
        .group_by(cost_correction.c.request_id)
        .subquery()
    )
    booked = request_result.c
    query: Select[Any] = select(
        booked.request_id,
        _whole(booked.cost_nanousd + func.coalesce(grouped.c.delta, 0)).label("cost_nanousd"),
        case((grouped.c.completes == 1, true()), else_=booked.cost_complete).label("cost_complete"),
    ).outerjoin(grouped, grouped.c.request_id == booked.request_id)
    return query.subquery("request_cost")


def attempt_costs() -> Subquery:
    """`attempt_id` and `cost_nanousd` (NULL unknown) of every attempt that has ended."""
    grouped = (
        select(cost_correction.c.attempt_id, func.sum(DELTA_NANOUSD).label("delta"))
        .group_by(cost_correction.c.attempt_id)
        .subquery()
    )
    booked = attempt_result.c
    corrected = func.coalesce(booked.cost_nanousd, 0) + grouped.c.delta
    query: Select[Any] = select(
        booked.attempt_id,
        case((grouped.c.delta.is_not(None), _whole(corrected)), else_=booked.cost_nanousd).label(
            "cost_nanousd"
        ),
    ).outerjoin(grouped, grouped.c.attempt_id == booked.attempt_id)
    return query.subquery("attempt_cost")


def _whole(value: Any) -> Any:
    # PostgreSQL sums integers to decimals.
    return cast(value, BigInteger)
