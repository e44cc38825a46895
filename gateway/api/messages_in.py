"""Anthropic's messages body in: JSON to a `ChatRequest`, every fault named by its field.

The request remembers the body, and each message its blocks, so that an expert of the same wire gets
them as they came. Everybody else gets what follows from them in OpenAI's words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from experts.messages import ChatRequest, Message, Source
from experts.wire.anthropic_turns import WIRE
from gateway.access.keys import Key
from gateway.api.blocks_in import messages_of, parts_of
from gateway.api.body import check_name, fault, model_and_stream, refuse_operator_fields
from gateway.ask import Ask, parse_wishes

_READ = (
    "model",
    "messages",
    "system",
    "max_tokens",
    "stream",
    "pointsman",
    "stop_sequences",
    "metadata",
    "tools",
    "tool_choice",
    "thinking",
    "output_config",
    "service_tier",
)
_ANTHROPICS_OWN = (
    "cache_control",
    "container",
    "context_management",
    "diagnostics",
    "inference_geo",
    "mcp_servers",
    "output_format",
    "speed",
    "user_profile_id",
)
"""Fields that mean nothing to experts of another wire."""

_EFFORTS = ((2048, "low"), (8192, "medium"))
_SHAPES: tuple[tuple[str, type | tuple[type, ...], str], ...] = (
    ("system", (str, list), "a string or an array of text blocks"),
    ("stop_sequences", list, "an array of strings"),
    ("temperature", (int, float), "a number"),
    ("top_p", (int, float), "a number"),
    ("top_k", int, "a whole number"),
    ("metadata", dict, "an object"),
    ("tools", list, "an array"),
    ("tool_choice", dict, "an object"),
    ("thinking", dict, "an object"),
    ("output_config", dict, "an object"),
)


def parse_messages(
    body: dict[str, Any], headers: Mapping[str, str], key: Key, *, counting: bool = False
) -> Ask:
    """A messages body as an `Ask`.

    Args:
        body: The JSON.
        headers: Of the request.
        key: Whose it is.
        counting: It is for `count_tokens`, where no answer and so no `max_tokens` is wanted.

    Raises:
        ApiError: 400 with `param` set to the field at fault.
    """
    refuse_operator_fields(body)
    model, stream = model_and_stream(body)
    for name, kind, word in _SHAPES:
        value = body.get(name)
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            raise fault(name, f"must be {word}")
    if body.get("n") not in (None, 1):
        raise fault("n", "there is one answer per request")
    messages = (*_system(body.get("system")), *messages_of(body.get("messages")))
    max_tokens = None if counting else _max_tokens(body.get("max_tokens"))
    params = _params(body)
    beta = {"anthropic-beta": headers["anthropic-beta"]} if "anthropic-beta" in headers else {}
    source = Source(WIRE, _signed(body), (messages, max_tokens, params), beta)
    request = ChatRequest(messages, max_tokens, stream, params, source)
    return Ask(request, model, WIRE, key, parse_wishes(body.get("pointsman"), headers), body)


def _max_tokens(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise fault("max_tokens", "is required, and must be a whole number")
    return value


def _system(system: Any) -> Iterator[Message]:
    if isinstance(system, str) and system:
        yield Message("system", system)
    elif system:
        content, fields = parts_of(system, "system"), dict[str, Any]()
        yield Message("system", content, fields, Source(WIRE, system, (content, fields)))


def _signed(body: dict[str, Any]) -> dict[str, Any]:
    """`body` without thoughts that bear no signature: another expert's, which the wire refuses."""
    if not any(map(_has_unsigned, body["messages"])):
        return body
    messages = [
        {**message, "content": [block for block in message["content"] if not _is_unsigned(block)]}
        if _has_unsigned(message)
        else message
        for message in body["messages"]
    ]
    return {**body, "messages": [message for message in messages if message["content"]]}


def _has_unsigned(message: dict[str, Any]) -> bool:
    content = message["content"]
    return isinstance(content, list) and any(map(_is_unsigned, content))


def _is_unsigned(block: dict[str, Any]) -> bool:
    return block.get("type") == "thinking" and not block.get("signature")


def _params(body: dict[str, Any]) -> dict[str, Any]:
    """Everything but the conversation by its OpenAI name; fields we don't know by their own."""
    params = {
        name: value
        for name, value in body.items()
        if name not in _READ and name not in _ANTHROPICS_OWN and value is not None
    }
    for name, of in _IN_OPENAIS_WORDS.items():
        value = of(body)
        if value is not None:
            params[name] = value
    return params


def _stop(body: Mapping[str, Any]) -> list[str] | None:
    stops = body.get("stop_sequences")
    if stops and not all(isinstance(stop, str) for stop in stops):
        raise fault("stop_sequences", "must be an array of strings")
    return stops or None


def _user(body: Mapping[str, Any]) -> str | None:
    return (body.get("metadata") or {}).get("user_id")


def _tools(body: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    tools = body.get("tools")
    return [_tool(tool, f"tools[{index}]") for index, tool in enumerate(tools)] if tools else None


def _tool(tool: Any, where: str) -> dict[str, Any]:
    if not isinstance(tool, dict):
        raise fault(where, "must be an object")
    if tool.get("type") not in (None, "custom"):
        # One that Anthropic runs itself: nobody else has it, and whoever is asked will say so.
        return tool
    check_name(tool.get("name"), f"{where}.name")
    if not isinstance(tool.get("input_schema"), dict):
        raise fault(f"{where}.input_schema", "must be a JSON schema")
    kept = {name: tool[name] for name in ("name", "description", "strict") if name in tool}
    return {"type": "function", "function": {**kept, "parameters": tool["input_schema"]}}


_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


def _tool_choice(body: Mapping[str, Any]) -> Any:
    choice = body.get("tool_choice")
    if choice is None:
        return None
    if choice.get("type") == "tool" and isinstance(choice.get("name"), str):
        return {"type": "function", "function": {"name": choice["name"]}}
    kind = choice.get("type")
    if not isinstance(kind, str) or kind not in _CHOICES:
        raise fault("tool_choice", "must be of type auto, any, none, or tool with a name")
    return _CHOICES[kind]


def _parallel(body: Mapping[str, Any]) -> bool | None:
    return False if (body.get("tool_choice") or {}).get("disable_parallel_tool_use") else None


def _effort(body: Mapping[str, Any]) -> str | None:
    thinking = body.get("thinking") or {}
    if thinking.get("type") == "enabled":
        budget = thinking.get("budget_tokens")
        if isinstance(budget, bool) or not isinstance(budget, int):
            raise fault("thinking.budget_tokens", "must be a whole number")
        return next((effort for most, effort in _EFFORTS if budget <= most), "high")
    effort = (body.get("output_config") or {}).get("effort")
    return str(effort) if effort else None


def _format(body: Mapping[str, Any]) -> dict[str, Any] | None:
    wanted = (body.get("output_config") or {}).get("format") or body.get("output_format")
    if not wanted:
        return None
    if not isinstance(wanted, dict) or not isinstance(wanted.get("schema"), dict):
        raise fault("output_config.format", "must be an object with a JSON schema")
    schema = {"name": "answer", "schema": wanted["schema"], "strict": True}
    return {"type": "json_schema", "json_schema": schema}


def _tier(body: Mapping[str, Any]) -> str | None:
    return "default" if body.get("service_tier") == "standard_only" else body.get("service_tier")


_IN_OPENAIS_WORDS: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "stop": _stop,
    "user": _user,
    "tools": _tools,
    "tool_choice": _tool_choice,
    "parallel_tool_calls": _parallel,
    "reasoning_effort": _effort,
    "response_format": _format,
    "service_tier": _tier,
}
