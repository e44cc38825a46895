"""OpenAI's chat body in: JSON to a `ChatRequest`, every fault named by its field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, count
from typing import Any

from experts.messages import ChatRequest, Message, Source
from experts.wire.openai import CHAT_WIRE
from gateway.access.keys import Key
from gateway.api.body import check_name, fault, model_and_stream, refuse_operator_fields
from gateway.ask import Ask, parse_wishes

_ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_SPEAKERS = frozenset({"system", "developer", "user"})
"""Those of them who must say something."""
_OURS = ("model", "messages", "stream", "max_tokens", "pointsman")
KINDS: Mapping[str, tuple[Any, str]] = {
    "tools": (list, "an array"),
    "functions": (list, "an array"),
    "response_format": (dict, "an object"),
    "temperature": (int | float, "a number"),
    "top_p": (int | float, "a number"),
    "presence_penalty": (int | float, "a number"),
    "frequency_penalty": (int | float, "a number"),
    "stop": (str | list, "a string or an array"),
    "tool_choice": (str | dict, "a string or an object"),
    "parallel_tool_calls": (bool, "true or false"),
    "logit_bias": (dict, "an object"),
    "metadata": (dict, "an object"),
}
"""Fields that are of one kind everywhere, and the words for it."""


def parse_chat(body: dict[str, Any], headers: Mapping[str, str], key: Key) -> Ask:
    """A chat completions body as an `Ask`.

    Raises:
        ApiError: 400 with `param` set to the field at fault.
    """
    refuse_operator_fields(body)
    model, stream = model_and_stream(body)
    wants_usage(body)
    params = {name: value for name, value in body.items() if name not in _OURS}
    _check_params(params)
    messages, max_tokens = _messages(body.get("messages")), _max_tokens(body)
    source = Source(CHAT_WIRE, body, (messages, max_tokens, params)) if _is_plain(body) else None
    request = ChatRequest(messages, max_tokens, stream, params, source)
    wishes = parse_wishes(body.get("pointsman"), headers)
    return Ask(request, model, "openai.chat", key, wishes, body)


def _is_plain(body: Mapping[str, Any]) -> bool:
    """Whether an expert of the same wire can be sent it as it is."""
    if "pointsman" in body or ("max_completion_tokens" in body and "max_tokens" in body):
        return False
    # Thoughts that we added to an answer come back with it; this wire has no such field.
    return "thinking_blocks" not in chain.from_iterable(body["messages"])


def wants_usage(body: Mapping[str, Any]) -> bool:
    """Whether a stream's last chunk must carry the usage."""
    options = body.get("stream_options")
    if options is None:
        return False
    if not isinstance(options, dict):
        raise fault("stream_options", "must be an object")
    return bool(options.get("include_usage"))


def _messages(value: Any) -> tuple[Message, ...]:
    if not isinstance(value, list) or not value:
        raise fault("messages", "must be a non-empty array")
    return tuple(map(_message, value, count()))


def _message(item: Any, index: int) -> Message:
    if not isinstance(item, dict):
        raise fault(f"messages[{index}]", "must be an object")
    role, content = item.get("role"), item.get("content")
    if role not in _ROLES:
        raise fault(f"messages[{index}].role", f"must be one of {', '.join(_ROLES)}")
    if type(content) is not str:
        content = _content(content, role, index)
    fields = {}
    # Most messages have these two fields only.
    if len(item) != 2 or "content" not in item:
        fields = {name: value for name, value in item.items() if name not in ("role", "content")}
        _check_calls(fields.get("tool_calls"), f"messages[{index}].tool_calls")
    return Message(role, content, fields)


def _check_calls(calls: Any, path: str) -> None:
    if calls is not None and not (
        isinstance(calls, list) and all(isinstance(call, dict) for call in calls)
    ):
        raise fault(path, "must be an array of objects")


def _content(value: Any, role: str, index: int) -> str | tuple[dict[str, Any], ...] | None:
    if isinstance(value, str):
        return value
    path = f"messages[{index}].content"
    if value in (None, []) and role in _SPEAKERS:
        raise fault(path, f"is required of the role {role!r}")
    if value is None:
        return None
    if not (isinstance(value, list) and all(isinstance(p, dict) and "type" in p for p in value)):
        raise fault(path, "must be a string or an array of parts, each with a type")
    for place, part in enumerate(value):
        if part["type"] == "text" and not isinstance(part.get("text"), str):
            raise fault(f"{path}[{place}].text", "must be a string")
    return tuple(value)


def _max_tokens(body: Mapping[str, Any]) -> int | None:
    for name in ("max_completion_tokens", "max_tokens"):
        value = body.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise fault(name, "must be a whole number of at least 1")
        return value
    return None


def _check_params(params: Mapping[str, Any]) -> None:
    """The few that mean the same everywhere; the expert judges the others."""
    for name in params:
        if name == "n":
            wanted = params["n"]
            if wanted is not None and (not isinstance(wanted, int) or not 1 <= wanted <= 128):
                raise fault("n", "must be a whole number from 1 to 128")
        elif name in KINDS:
            kind, word = KINDS[name]
            if params[name] is not None and not isinstance(params[name], kind):
                raise fault(name, f"must be {word}")
            if name == "tools":
                _check_tools(params[name] or ())
            if name == "functions":
                for index, function in enumerate(params[name] or ()):
                    _check_named(function, f"functions[{index}]")
            if name == "response_format":
                _check_format(params[name] or {})


def _check_format(wanted: Mapping[str, Any]) -> None:
    if not isinstance(wanted.get("json_schema"), dict | None):
        raise fault("response_format.json_schema", "must be an object")


def _check_tools(tools: Sequence[Any]) -> None:
    for index, tool in enumerate(tools):
        if not isinstance(tool, dict) or not isinstance(tool.get("type"), str):
            raise fault(f"tools[{index}]", "must be an object with a type")
        kind = tool["type"]
        if kind == "function" or (kind == "custom" and "custom" in tool):
            _check_named(tool.get(kind), f"tools[{index}].{kind}")


def _check_named(tool: Any, where: str) -> None:
    if not isinstance(tool, dict):
        raise fault(where, "must be an object with a name")
    check_name(tool.get("name"), f"{where}.name")
