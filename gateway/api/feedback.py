"""`POST /v1/feedback` and `GET /v1/decisions/{id}`: outcomes in, the whole record out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anyio
import orjson
from fastapi import APIRouter, Request, Response

from gateway.access.keys import Key
from gateway.api.body import parse_body
from gateway.api.described.operation import KEYED, READS, described
from gateway.api.described.ours import AnyFeedback, BookedOutcome, DecisionJson
from gateway.errors import ApiError
from gateway.ids import new_id, now
from gateway.ledger import tables
from gateway.ledger.rows import Row
from gateway.state import Gateway, gateway_of, read_body

api = APIRouter()
_FIELDS = ("decision_id", "score", "source", "objective", "comment")
_SOURCE_KINDS = ("grader", "key", "tensorzero")
_TENSORZERO = ("metric_name", "value", "inference_id", "episode_id", "tags", "dryrun")


@api.post("/v1/feedback", **described(BookedOutcome, (*READS, 404), body=AnyFeedback))
async def feedback(request: Request) -> Response:
    """Book a score for a decision; repeatable, and the newest one per source counts."""
    gateway = gateway_of(request)
    key = gateway.keyring.check(request)
    values = outcome_values(parse_body(await read_body(request)), key.name)
    await _require_decision(gateway, values["decision_id"], key)
    outcome_id = new_id("out")
    row = Row(tables.outcome, {"outcome_id": outcome_id, "at": now(), **values})
    await gateway.ledger.commit([row])
    gateway.telemetry.metrics.outcomes.add((_source_kind(values["source"]),))
    return _json({"outcome_id": outcome_id, "decision_id": values["decision_id"]})


@api.get("/v1/decisions/{decision_id}", **described(DecisionJson, (*KEYED, 404)))
async def get_decision(request: Request, decision_id: str) -> Response:
    """Everything the ledger knows of one decision."""
    gateway = gateway_of(request)
    key = gateway.keyring.check(request)
    await _require_decision(gateway, decision_id, key)
    return _json(await anyio.to_thread.run_sync(gateway.reader.decision, decision_id))


def outcome_values(body: Mapping[str, Any], key_name: str) -> dict[str, Any]:
    """The columns of an outcome from our shape or TensorZero's, or ApiError 400."""
    if "metric_name" in body:
        body = _from_tensorzero(body)
    unknown = sorted(set(body) - set(_FIELDS))
    if unknown:
        raise _fault(unknown[0], "is not a field of feedback")
    decision_id = body.get("decision_id")
    if not isinstance(decision_id, str) or not decision_id:
        raise _fault("decision_id", "must be the id of the answer's x-pointsman-decision-id header")
    return {
        "decision_id": decision_id,
        "score": _score(body.get("score"), "score"),
        "source": _text(body, "source") or f"key:{key_name}",
        "objective": _text(body, "objective") or "quality",
        "comment": _text(body, "comment"),
    }


def _from_tensorzero(body: Mapping[str, Any]) -> dict[str, Any]:
    for name in body:
        if name not in _TENSORZERO:
            raise _fault(name, "is not a field of feedback")
    return {
        "decision_id": body.get("inference_id"),
        "score": _score(body.get("value"), "value"),
        "objective": body["metric_name"],
        "source": "tensorzero",
    }


def _score(value: Any, param: str) -> float:
    if isinstance(value, bool) and param == "value":
        return float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise _fault(param, "must be a number from 0 to 1")
    return float(value)


def _text(body: Mapping[str, Any], name: str) -> str | None:
    value = body.get(name)
    if value is None:
        return None
    limit = 2_000 if name == "comment" else 200
    if not isinstance(value, str) or len(value) > limit:
        raise _fault(name, f"must be a string of at most {limit} characters")
    return value


async def _require_decision(gateway: Gateway, decision_id: str, key: Key) -> None:
    """A decision is its own key's affair, and the admins'; to others it does not exist."""
    # A client may ask before the decision's own row is written.
    await gateway.ledger.flush()
    owner = await anyio.to_thread.run_sync(gateway.reader.key_of, decision_id)
    if owner is None or not (key.admin or key.name == owner):
        raise _no_decision(decision_id)


def _source_kind(source: str) -> str:
    """A label of few values: clients may write anything they like as source."""
    kind = source.partition(":")[0]
    return kind if kind in _SOURCE_KINDS else "other"


def _no_decision(decision_id: str) -> ApiError:
    return ApiError(
        404, f"no decision {decision_id!r}", code="decision_not_found", param="decision_id"
    )


def _fault(param: str, what: str) -> ApiError:
    return ApiError(400, f"{param}: {what}", param=param)


def _json(content: Any) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")
