"""Who answered one request after another."""

from __future__ import annotations

from sqlalchemy import Engine, select

from gateway.ledger.database import reader
from gateway.ledger.tables import attempt


def experts_asked(engine: Engine, since: float, until: float, most: int) -> list[str]:
    """The expert of each request's first call, oldest first; of very many requests, the newest.

    Args:
        engine: The ledger.
        since: Seconds since 1970.
        until: Likewise; that moment no longer counts.
        most: Of so many requests at most.
    """
    query = (
        select(attempt.c.expert_id)
        .where(attempt.c.ordinal == 0, attempt.c.at >= since, attempt.c.at < until)
        .order_by(attempt.c.at.desc(), attempt.c.attempt_id.desc())
        .limit(most)
    )
    with reader(engine).connect() as connection:
        return [row.expert_id for row in reversed(connection.execute(query).all())]
