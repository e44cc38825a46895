"""JSON bodies of requests, every fault named by its field."""

from __future__ import annotations

from typing import Any

import orjson

from gateway.errors import ApiError

# Settings of where a call goes and of its outcome belong to the operator, never to a client.
_REFUSED = ("api_base", "base_url", "api_key", "custom_llm_provider", "mock_response")


def parse_body(raw: bytes) -> dict[str, Any]:
    """A JSON object, or ApiError 400."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise ApiError(400, f"the body is no JSON: {error}") from error
    if not isinstance(body, dict):
        raise ApiError(400, "the body must be a JSON object")
    return body


def refuse_operator_fields(body: dict[str, Any]) -> None:
    """Raises ApiError 400 for a field that only the operator may set."""
    for name in _REFUSED:
        if name in body:
            raise fault(name, "is not accepted from clients")


def model_and_stream(body: dict[str, Any]) -> tuple[str, bool]:
    """The two fields that every wire has, or ApiError 400."""
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise fault("model", "must be a non-empty string")
    stream = body.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise fault("stream", "must be true or false")
    return model, bool(stream)


def fault(param: str, what: str) -> ApiError:
    """A 400 that names the field."""
    return ApiError(400, f"{param}: {what}", param=param)
