"""When an expert's calls were under way, and the tokens of each."""

from __future__ import annotations

import numpy as np
from sqlalchemy import Engine, select

from eval.fleet.machine import Calls
from gateway.ledger.database import reader
from gateway.ledger.tables import attempt, attempt_result


def calls_of(engine: Engine, expert: str, since: float, until: float) -> Calls:
    """All calls to one expert that ended in [since, until) and whose tokens are known.

    Those that failed or were cancelled took the machine as well.

    Args:
        engine: The ledger.
        expert: Its id.
        since: Seconds since 1970.
        until: Likewise.
    """
    query = (
        select(
            attempt_result.c.at,
            attempt_result.c.latency_s,
            attempt_result.c.input_tokens,
            attempt_result.c.output_tokens,
            attempt_result.c.reasoning_tokens,
        )
        .join(attempt, attempt.c.attempt_id == attempt_result.c.attempt_id)
        .where(
            attempt.c.expert_id == expert,
            attempt_result.c.at >= since,
            attempt_result.c.at < until,
            attempt_result.c.input_tokens.is_not(None),
        )
    )
    with reader(engine).connect() as connection:
        rows = connection.execute(query).all()
    end_N = np.array([row.at for row in rows], dtype=np.float64)
    took_N = np.array([row.latency_s for row in rows], dtype=np.float64)
    written = [(row.output_tokens or 0) + (row.reasoning_tokens or 0) for row in rows]
    return Calls(
        np.maximum(end_N - took_N, since) if len(rows) else end_N,
        end_N,
        np.array([row.input_tokens for row in rows], dtype=np.float64),
        np.array(written, dtype=np.float64),
    )
