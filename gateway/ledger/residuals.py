"""What was expected of the experts that answered, and what they scored."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sqlalchemy import Engine, select

from eval.drift.residuals import Residuals
from gateway.ledger.database import reader
from gateway.ledger.scores import latest_scores
from gateway.ledger.shadows import shadow_scores
from gateway.ledger.tables import decision, request

_MOST = 20_000


def residuals(engine: Engine, router: str, versions: Sequence[str], since: float) -> Residuals:
    """Scores of some versions' decisions since a time, oldest first; of very many, the newest.

    With them the scores of others that were asked as well: of who is never chosen, nothing else
    would be heard.

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
    told = shadow_scores("quality", router, (since, float("inf"))).subquery()
    aside = (
        select(
            decision.c.at,
            told.c.expert_id,
            decision.c.candidates,
            request.c.tags,
            told.c.score,
        )
        .join(request, request.c.request_id == decision.c.request_id)
        .join(told, told.c.decision_id == decision.c.decision_id)
        .where(decision.c.version.in_(versions))
        .order_by(decision.c.at.desc(), decision.c.decision_id.desc())
        .limit(_MOST)
    )
    with reader(engine).connect() as connection:
        found = [*connection.execute(query), *connection.execute(aside)]
    rows = sorted(found, key=lambda row: float(row.at))[-_MOST:]
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
