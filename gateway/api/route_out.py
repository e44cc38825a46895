"""A decision as JSON for people and programs: `POST /v1/route`."""

from __future__ import annotations

from typing import Any

import orjson

from gateway.ledger.rows import numbers, plain
from routers.explain import explain
from routers.records import Decision


def route_json(decision: Decision) -> bytes:
    """Everything that was weighed: eligible experts in order of id, reasons for the others."""
    body = {
        "expert": decision.expert,
        "router": decision.router,
        "version": decision.version,
        "policy": decision.policy,
        "preference": plain(decision.preference),
        "propensity": decision.propensity,
        "explanation": explain(decision),
        "fallback": list(decision.ranked()[1:]),
        "candidates": _candidates(decision),
        "excluded": dict(decision.excluded),
        "flags": list(decision.flags),
    }
    return orjson.dumps(body)


def _candidates(decision: Decision) -> list[dict[str, Any]]:
    weighed = decision.candidates
    columns = {
        "expert": list(weighed.experts),
        "quality": numbers(weighed.quality_A),
        "quality_stderr": numbers(weighed.stderr_A),
        "cost_usd": numbers(weighed.cost_usd_A),
        "latency_s": numbers(weighed.latency_s_A),
        "output_tokens": numbers(weighed.output_tokens_A),
        "utility": numbers(decision.utility_A),
        "probability": numbers(decision.probabilities_A),
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
