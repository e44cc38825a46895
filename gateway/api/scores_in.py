"""Scores as clients send them, ours and TensorZero's, to the columns of an outcome. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from gateway.api.body import fault
from gateway.errors import ApiError
from gateway.ids import new_id

MOST_ITEMS = 1_000
"""Scores in one batch."""
_FIELDS = ("decision_id", "score", "source", "objective", "comment", "event_id")
_TENSORZERO = ("metric_name", "value", "inference_id", "episode_id", "tags", "dryrun")
_OURS = ("judge", "implicit")
"""Sources that only the gateway itself writes as."""


def outcome_values(body: Any, key_name: str) -> dict[str, Any]:
    """The columns of an outcome but `at`.

    The id follows from the key and its `event_id`, so that an event sent again is the same row.

    Args:
        body: One score, in our shape or in TensorZero's.
        key_name: Whose word it is.

    Raises:
        ApiError: 400 naming the field that is wrong.
    """
    if not isinstance(body, Mapping):
        raise ApiError(400, "a score must be a JSON object")
    if is_tensorzero(body):
        body = _from_tensorzero(body)
    unknown = sorted(set(body) - set(_FIELDS))
    if unknown:
        raise fault(unknown[0], "is not a field of feedback")
    return {
        "outcome_id": _outcome_id(_text(body, "event_id"), key_name),
        "decision_id": _decision_id(body, "decision_id"),
        "score": _score(body.get("score"), "score"),
        "source": _source(body, key_name),
        "objective": _text(body, "objective") or "quality",
        "comment": _text(body, "comment"),
    }


def is_tensorzero(body: Any) -> bool:
    """Whether a score is written in TensorZero's shape."""
    return isinstance(body, Mapping) and "metric_name" in body


def is_rehearsal(body: Any) -> bool:
    """Whether a score is to be checked and not booked (TensorZero's `dryrun`)."""
    return is_tensorzero(body) and body.get("dryrun") is True


def items_of(body: list[Any]) -> list[Any]:
    """The scores of a batch, or ApiError 400."""
    if not 1 <= len(body) <= MOST_ITEMS:
        raise ApiError(400, f"a batch must hold 1 to {MOST_ITEMS} scores, this one {len(body)}")
    return body


def _outcome_id(event_id: str | None, key_name: str) -> str:
    if not event_id:
        return new_id("out")
    # Of its own key: nobody takes another's ids away.
    said = f"{len(key_name)}|{key_name}|{event_id}".encode("utf-8", "surrogatepass")
    return f"out-{hashlib.sha256(said).hexdigest()[:32]}"


def _source(body: Mapping[str, Any], key_name: str) -> str:
    source = _text(body, "source") or f"key:{key_name}"
    if source.partition(":")[0] in _OURS:
        raise fault("source", f"{source!r} is what the gateway's own scores are called")
    return source


def _from_tensorzero(body: Mapping[str, Any]) -> dict[str, Any]:
    for name in body:
        if name not in _TENSORZERO:
            raise fault(name, "is not a field of feedback")
    if not isinstance(body.get("dryrun"), bool | None):
        raise fault("dryrun", "must be true or false")
    return {
        "decision_id": _decision_id(body, "inference_id"),
        "score": _score(body.get("value"), "value"),
        "objective": _text(body, "metric_name"),
        "source": "tensorzero",
    }


def _decision_id(body: Mapping[str, Any], name: str) -> str:
    found = body.get(name)
    if not isinstance(found, str) or not found:
        raise fault(name, "must be the id of the answer's x-pointsman-decision-id header")
    return found


def _score(value: Any, param: str) -> float:
    if isinstance(value, bool) and param == "value":
        return float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise fault(param, "must be a number from 0 to 1")
    return float(value)


def _text(body: Mapping[str, Any], name: str) -> str | None:
    value = body.get(name)
    if value is None:
        return None
    limit = 2_000 if name == "comment" else 200
    if not isinstance(value, str) or len(value) > limit:
        raise fault(name, f"must be a string of at most {limit} characters")
    return value
