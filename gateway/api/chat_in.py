"""OpenAI's chat body in: JSON to a `ChatRequest`, every fault named by its field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from experts.messages import ChatRequest, Message
from gateway.ask import Ask, parse_wishes
from gateway.errors import ApiError

_ROLES = ("system", "developer", "user", "assistant", "tool", "function")
# Settings of where a call goes and of its outcome belong to the operator, never to a client.
_REFUSED = ("api_base", "base_url", "api_key", "custom_llm_provider", "mock_response")
_OURS = ("model", "messages", "stream", "stream_options", "max_tokens", "pointsman")


def parse_body(raw: bytes) -> dict[str, Any]:
    """A JSON object, or ApiError 400."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise ApiError(400, f"the body is no JSON: {error}") from error
    if not isinstance(body, dict):
        raise ApiError(400, "the body must be a JSON object")
    return body


def parse_chat(body: Mapping[str, Any], headers: Mapping[str, str], key_name: str) -> Ask:
    """A chat completions body as an `Ask`.

    Raises:
        ApiError: 400 with `param` set to the field at fault.
    """
    for name in _REFUSED:
        if name in body:
            raise _fault(name, "is not accepted from clients")
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise _fault("model", "must be a non-empty string")
    stream = body.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise _fault("stream", "must be true or false")
    params = {name: value for name, value in body.items() if name not in _OURS}
    _check_params(params)
    request = ChatRequest(_messages(body.get("messages")), _max_tokens(body), bool(stream), params)
    return Ask(
        request, model, "openai.chat", key_name, parse_wishes(body.get("pointsman"), headers)
    )


def wants_usage(body: Mapping[str, Any]) -> bool:
    """Whether a stream's last chunk must carry the usage."""
    options = body.get("stream_options")
    if options is None:
        return False
    if not isinstance(options, dict):
        raise _fault("stream_options", "must be an object")
    return bool(options.get("include_usage"))


def _messages(value: Any) -> tuple[Message, ...]:
    if not isinstance(value, list) or not value:
        raise _fault("messages", "must be a non-empty array")
    return tuple(_message(item, f"messages[{index}]") for index, item in enumerate(value))


def _message(item: Any, where: str) -> Message:
    if not isinstance(item, dict):
        raise _fault(where, "must be an object")
    if item.get("role") not in _ROLES:
        raise _fault(f"{where}.role", f"must be one of {', '.join(_ROLES)}")
    fields = {name: value for name, value in item.items() if name not in ("role", "content")}
    return Message(item["role"], _content(item.get("content"), f"{where}.content"), fields)


def _content(value: Any, where: str) -> str | tuple[dict[str, Any], ...] | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(p, dict) and "type" in p for p in value):
        return tuple(value)
    raise _fault(where, "must be a string or an array of parts, each with a type")


def _max_tokens(body: Mapping[str, Any]) -> int | None:
    for name in ("max_completion_tokens", "max_tokens"):
        value = body.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise _fault(name, "must be a whole number of at least 1")
        return value
    return None


def _check_params(params: Mapping[str, Any]) -> None:
    """The few fields that we read ourselves; the expert judges the others."""
    count = params.get("n")
    if count is not None and (not isinstance(count, int) or not 1 <= count <= 128):
        raise _fault("n", "must be a whole number from 1 to 128")
    for name, kind, word in (
        ("tools", list, "an array"),
        ("functions", list, "an array"),
        ("response_format", dict, "an object"),
        ("temperature", int | float, "a number"),
    ):
        value = params.get(name)
        if value is not None and not isinstance(value, kind):
            raise _fault(name, f"must be {word}")


def _fault(param: str, what: str) -> ApiError:
    return ApiError(400, f"{param}: {what}", param=param)
