"""`POST /v1/feedback` and `GET /v1/decisions/{id}`: outcomes in, the whole record out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
from starlette.requests import Request
from starlette.responses import Response

from gateway.access.keys import Key
from gateway.api.body import parse_json
from gateway.api.json_answer import json_answer
from gateway.api.route_out import reasons_json
from gateway.api.routing import Routes
from gateway.api.scores_in import is_rehearsal, items_of, outcome_values
from gateway.errors import ApiError
from gateway.ids import now
from gateway.ledger import tables
from gateway.ledger.rows import Row, candidates_of, decision_of, prompt_digest
from gateway.state import Gateway, gateway_of, read_body
from routers.records import Decision

api = Routes()
_SOURCE_KINDS = ("grader", "key", "tensorzero")
_SAME = ("decision_id", "objective", "score", "source", "comment")
_Booked = dict[str, Any] | ApiError


@api.post("/v1/feedback")
async def feedback(request: Request) -> Response:
    """Book a score for a decision, or a list of them, each for itself.

    Repeatable, and the newest one per source counts; one with an `event_id` is booked once.
    """
    gateway = gateway_of(request)
    key = gateway.keyring.check(request)
    body = parse_json(await read_body(request))
    if not isinstance(body, list):
        values = outcome_values(body, key.name)
        [said] = await _book(gateway, key, [values], [is_rehearsal(body)])
        if isinstance(said, ApiError):
            raise said
        return json_answer(said)
    scores = [_read(item, key.name) for item in items_of(body)]
    rehearsed = list(map(is_rehearsal, body))
    found = await _book(gateway, key, scores, rehearsed)
    wrong = [isinstance(each, ApiError) for each in found]
    booked = sum(not (bad or dry) for bad, dry in zip(wrong, rehearsed, strict=True))
    items = [
        {"index": index, **(each.body() if isinstance(each, ApiError) else each)}
        for index, each in enumerate(found)
    ]
    return json_answer({"booked": booked, "refused": sum(wrong), "items": items})


@api.get("/v1/decisions/{decision_id}")
async def get_decision(request: Request, decision_id: str) -> Response:
    """Everything the ledger knows of one decision."""
    gateway = gateway_of(request)
    key = gateway.keyring.check(request)
    # A client may ask before the decision's own row is written.
    await gateway.ledger.flush()
    owner = await anyio.to_thread.run_sync(gateway.reader.key_of, decision_id)
    if not _may_see(key, owner):
        raise _no_decision(decision_id)
    record = await anyio.to_thread.run_sync(gateway.reader.decision, decision_id)
    if record is None:
        raise _no_decision(decision_id)
    decided = decision_of(record)
    reasons = await _reasons(gateway, record, decided)
    said = {"expert": decided.expert, "candidates": candidates_of(decided), "reasons": reasons}
    return json_answer({**record, **said})


async def _reasons(
    gateway: Gateway, record: dict[str, Any], decided: Decision
) -> dict[str, Any] | None:
    """Worked out anew from the prompt as far as it is kept: what is forgotten gives no reasons."""
    asked = record["request"]
    if asked["prompt"] is None:
        return None
    why = await gateway.decider.why(asked["prompt"], decided)
    if why is None:
        return None
    whole = prompt_digest(asked["prompt"], "full") == asked["prompt_sha256"]
    return {**reasons_json(why), "redacted": not whole}


def _read(item: Any, key_name: str) -> _Booked:
    try:
        return outcome_values(item, key_name)
    except ApiError as error:
        return error


async def _book(
    gateway: Gateway, key: Key, scores: Sequence[_Booked], rehearsed: Sequence[bool]
) -> list[_Booked]:
    """What is said of each score: that it is in the ledger, or would be, or why not."""
    good = [score for score in scores if not isinstance(score, ApiError)]
    await gateway.ledger.flush()
    owners = await anyio.to_thread.run_sync(
        gateway.reader.keys_of, list({score["decision_id"] for score in good})
    )
    known = await anyio.to_thread.run_sync(
        gateway.reader.outcomes, [score["outcome_id"] for score in good]
    )
    said, rows, at = list[_Booked](), list[Row](), now()
    for score, rehearsal in zip(scores, rehearsed, strict=True):
        if isinstance(score, ApiError):
            said.append(score)
            continue
        before = known.get(score["outcome_id"])
        if not _may_see(key, owners.get(score["decision_id"])):
            said.append(_no_decision(score["decision_id"]))
        elif before and any(before[name] != score[name] for name in _SAME):
            said.append(_taken())
        else:
            if before is None and not rehearsal:
                known[score["outcome_id"]] = score
                rows.append(Row(tables.outcome, {"at": at, **score}, once=True))
            named = {name: score[name] for name in ("outcome_id", "decision_id")}
            said.append({**named, "repeated": before is not None})
    if rows:
        await gateway.ledger.commit(rows)
    for row in rows:
        gateway.telemetry.metrics.outcomes.add((_source_kind(row.values["source"]),))
    return said


def _may_see(key: Key, owner: str | None) -> bool:
    """A decision is its own key's affair, and the admins'; to others it does not exist."""
    return owner is not None and (key.admin or key.name == owner)


def _source_kind(source: str) -> str:
    """A label of few values: clients may write anything they like as source."""
    kind = source.partition(":")[0]
    return kind if kind in _SOURCE_KINDS else "other"


def _no_decision(decision_id: str) -> ApiError:
    return ApiError(
        404, f"no decision {decision_id!r}", code="decision_not_found", param="decision_id"
    )


def _taken() -> ApiError:
    return ApiError(
        409,
        "event_id: another score was booked under it; send each event's own id",
        code="event_id_taken",
        param="event_id",
    )
