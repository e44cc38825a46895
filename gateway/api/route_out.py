"""A decision as JSON for people and programs: `POST /v1/route`."""

from __future__ import annotations

from typing import Any

import orjson

from gateway.ledger.rows import candidates_of, plain
from routers.explaining.explain import explain
from routers.explaining.reasons import Why
from routers.records import Decision


def route_json(decision: Decision, why: Why | None) -> bytes:
    """Everything that was weighed: eligible experts in order of id, reasons for the others."""
    because = why.sentence() if why else ""
    body = {
        "expert": decision.expert,
        "router": decision.router,
        "version": decision.version,
        "policy": decision.policy,
        "preference": plain(decision.preference),
        "propensity": decision.propensity,
        "explanation": f"{explain(decision)} {because}".strip(),
        "reasons": reasons_json(why) if why else None,
        "fallback": [*decision.ranked()[1:], *decision.standby],
        "candidates": candidates_of(decision),
        "excluded": dict(decision.excluded),
        "flags": list(decision.flags),
    }
    return orjson.dumps(body)


def reasons_json(why: Why) -> dict[str, Any]:
    """Ids, likeness and scores of logged queries, but no text: it may be somebody else's."""
    return {
        "expert": why.chosen,
        "against": why.other,
        "neighbours": [
            {
                "query_id": one.query_id,
                "similarity": one.similarity,
                "weight": one.weight,
                "scores": dict(one.scores),
            }
            for one in why.neighbours
        ],
        "regions": [
            {"name": one.name, "share": one.share, "quality": dict(one.quality)}
            for one in why.regions
        ],
        "contributions": [{"name": one.name, "points": one.points} for one in why.contributions],
        "baseline": why.baseline if why.contributions else None,
        "unit": why.unit if why.contributions else None,
    }
