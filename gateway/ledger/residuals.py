"""What was expected of the experts that answered, and what they scored."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sqlalchemy import Engine, select

from eval.drift.residuals import Residuals
from gateway.ledger.database import reader
from gateway.ledger.scores import latest_scores
from gateway.ledger.tables import decision, request

_MOST = 20_000


def residuals(engine: Engine, router: str, versions: Sequence[str], since: float) -> Residuals:
    """Scored decisions of some versions since a time, oldest first; of very many, the newest.

    Args:
        engine: The ledger.
        router: Its name.
        versions: Whose expectations are meant; those of others differ without any drift.
        since: Seconds since 1970.
    """
    scores = latest_scores("quality").subquery()
    query = (
        select(
            decision.c.at,
            decision.c.expert_id,
            decision.c.candidates,
            request.c.tags,
            scores.c.score,
        )
        .join(request, request.c.request_id == decision.c.request_id)
        .join(scores, scores.c.decision_id == decision.c.decision_id)
        .where(
            decision.c.router == router, decision.c.version.in_(versions), decision.c.at >= since
        )
        .order_by(decision.c.at.desc(), decision.c.decision_id.desc())
        .limit(_MOST)
    )
    with reader(engine).connect() as connection:
        rows = list(reversed(connection.execute(query).all()))
    expected = [
        row.candidates["quality"][row.candidates["experts"].index(row.expert_id)] for row in rows
    ]
    return Residuals(
        experts=[row.expert_id for row in rows],
        slices=[row.tags.get("task") for row in rows],
        expected_N=np.array(expected, dtype=np.float64),
        score_N=np.array([row.score for row in rows], dtype=np.float64),
        at_N=np.array([row.at for row in rows], dtype=np.float64),
    )
