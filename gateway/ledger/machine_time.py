"""When an expert's calls were under way, and the tokens of each."""

from __future__ import annotations

from typing import Any

import numpy as np
from sqlalchemy import Engine, Select, select

from eval.fleet.machine import Calls
from gateway.ledger.database import reader
from gateway.ledger.reprice import Which
from gateway.ledger.tables import attempt, attempt_result


def calls_of(engine: Engine, which: Which) -> Calls:
    """The calls that a correction of the same attempts would reprice.

    Those that failed or were cancelled took the machine as well.

    Args:
        engine: The ledger.
        which: Whose calls, and of when; what of a call is not within that time is left out.
    """
    query: Select[Any] = which.narrowed(
        select(
            attempt_result.c.at,
            attempt_result.c.latency_s,
            attempt_result.c.input_tokens,
            attempt_result.c.output_tokens,
            attempt_result.c.reasoning_tokens,
        ).join(attempt, attempt.c.attempt_id == attempt_result.c.attempt_id)
    )
    with reader(engine).connect() as connection:
        rows = connection.execute(query).all()
    end_N = np.array([row.at for row in rows], dtype=np.float64)
    took_N = np.array([row.latency_s for row in rows], dtype=np.float64)
    written = [(row.output_tokens or 0) + (row.reasoning_tokens or 0) for row in rows]
    return Calls(
        np.clip(end_N - took_N, which.since, which.until),
        np.clip(end_N, which.since, which.until),
        np.array([row.input_tokens for row in rows], dtype=np.float64),
        np.array(written, dtype=np.float64),
    )
