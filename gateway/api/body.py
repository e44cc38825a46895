"""JSON bodies of requests, every fault named by its field."""

from __future__ import annotations

from typing import Any

import orjson

from experts.params import KNOWN_PARAMS
from experts.wire.depth import TOO_DEEP, load_json
from gateway.errors import ApiError

# Settings of where a call goes, as whom, and of its outcome belong to the operator, never to a
# client. We read none of them; but what is behind an expert's URL may be a gateway that does.
_REFUSED = frozenset(
    (
        *("api_base", "api_key", "api_version", "base_url", "custom_host", "custom_llm_provider"),
        *("extra_headers", "model_list", "user_config"),
    )
)
_REFUSED_PREFIXES = ("mock_", "aws_", "azure_", "vertex_")
_USUAL = frozenset({"messages", "model", "stream", "max_tokens"}) | KNOWN_PARAMS["chat"]
# Where clients of such gateways put further fields.
_MORE_FIELDS = ("extra_body", "litellm_params")
_MOST_DEPTH = 8


def parse_body(raw: bytes) -> dict[str, Any]:
    """A JSON object, or ApiError 400."""
    body = parse_json(raw)
    if not isinstance(body, dict):
        raise ApiError(400, "the body must be a JSON object")
    return body


def of_deployment(raw: bytes, model: str | None) -> bytes:
    """A body with the model that its path names, if it does; ApiError 400 if it is none."""
    return raw if model is None else orjson.dumps({**parse_body(raw), "model": model})


def parse_json(raw: bytes) -> Any:
    """JSON of any kind, or ApiError 400."""
    if not raw:
        raise ApiError(400, "the body is empty; it must be JSON")
    try:
        return load_json(raw)
    except orjson.JSONDecodeError as error:
        if error.msg == TOO_DEEP:
            raise ApiError(400, f"the body is {TOO_DEEP}") from error
        raise ApiError(400, f"the body is no JSON: {error}") from error


def refuse_operator_fields(body: dict[str, Any]) -> None:
    """Raises ApiError 400 for a field that only the operator may set."""
    if body.keys() <= _USUAL:
        return
    for name in body:
        if name in _REFUSED or name.startswith(_REFUSED_PREFIXES):
            raise fault(name, "is not accepted from clients")
    for name in _MORE_FIELDS:
        if name in body and (found := _operators(body[name], _MOST_DEPTH)):
            raise fault(f"{name}.{found}", "is not accepted from clients")


def _operators(value: Any, depth: int) -> str | None:
    """The path of a field within `value` that only the operator may set, if there is one."""
    if not isinstance(value, dict):
        return None
    for name, item in value.items():
        if name in _REFUSED or name.startswith(_REFUSED_PREFIXES) or not depth:
            return str(name)
        if found := _operators(item, depth - 1):
            return f"{name}.{found}"
    return None


def model_and_stream(body: dict[str, Any]) -> tuple[str, bool]:
    """The two fields that every wire has, or ApiError 400."""
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise fault("model", "must be a non-empty string")
    stream = body.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise fault("stream", "must be true or false")
    return model, bool(stream)


def check_name(value: Any, param: str) -> None:
    """Raises ApiError 400 for a tool's name that is none: nobody could call it."""
    if not isinstance(value, str) or not value:
        raise fault(param, "must be a non-empty string")


def fault(param: str, what: str) -> ApiError:
    """A 400 that names the field."""
    return ApiError(400, f"{param}: {what}", param=param)
