"""OpenAI's Responses body in: JSON to a `ChatRequest`, every fault named by its field."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from experts.messages import ChatRequest, Message
from gateway.access.keys import Key
from gateway.api.body import check_name, fault, model_and_stream, refuse_operator_fields
from gateway.api.responses_items import Item, messages_of
from gateway.ask import Ask, parse_wishes

WIRE = "openai.responses"
_ELSEWHERE = {
    "background": "answers in the background are not kept here; leave it out and stream",
    "conversation": "conversations are not kept here; use previous_response_id",
    "prompt": "prompt templates are not kept here; send their text",
    "context_management": "is not supported; send what the model should see",
}
_OURS = {
    "include",
    "input",
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "model",
    "pointsman",
    "previous_response_id",
    "reasoning",
    "store",
    "stream",
    "stream_options",
    "text",
    "tool_choice",
    "tools",
    "top_logprobs",
    "truncation",
    *_ELSEWHERE,
}


def parse_responses(
    body: dict[str, Any],
    items: Sequence[Item],
    headers: Mapping[str, str],
    key: Key,
) -> Ask:
    """A Responses body as an `Ask`.

    Args:
        body: As it came.
        items: The conversation: what was kept of earlier responses, then the body's own `input`.
        headers: Of the request.
        key: Whose request it is.

    Raises:
        ApiError: 400 with `param` set to the field at fault.
    """
    refuse_operator_fields(body)
    model, stream = model_and_stream(body)
    request = ChatRequest(
        (*_instructions(body.get("instructions")), *messages_of(items)),
        _max_tokens(body.get("max_output_tokens")),
        stream,
        _params(body),
    )
    if not request.messages:
        raise fault("input", "must not be empty")
    return Ask(request, model, WIRE, key, parse_wishes(body.get("pointsman"), headers), body)


def wants_storing(body: Mapping[str, Any]) -> bool | None:
    """What the body says of being kept; None when it says nothing."""
    value = body.get("store")
    if value is not None and not isinstance(value, bool):
        raise fault("store", "must be true or false")
    return value


def previous_id(body: Mapping[str, Any]) -> str | None:
    """The response that this one goes on from, if any."""
    value = body.get("previous_response_id")
    if value is not None and (not isinstance(value, str) or not value):
        raise fault("previous_response_id", "must be the id of a response")
    return value


def wants_summary(body: Mapping[str, Any]) -> bool:
    """Whether visible thought goes into the summary of a reasoning item, not its content."""
    reasoning = body.get("reasoning") or {}
    return bool(reasoning.get("summary") or reasoning.get("generate_summary"))


def refuse_what_is_elsewhere(body: Mapping[str, Any]) -> None:
    """Raises ApiError 400 for fields that name what only OpenAI keeps, or does."""
    for name, why in _ELSEWHERE.items():
        if body.get(name):
            raise fault(name, why)
    if body.get("truncation") not in (None, "disabled"):
        raise fault("truncation", "only 'disabled' is supported: shorten the input instead")
    metadata = body.get("metadata")
    if metadata is not None and not isinstance(metadata, dict):
        raise fault("metadata", "must be an object")


def _instructions(value: Any) -> Iterable[Message]:
    if value is None or value == "":
        return ()
    if not isinstance(value, str):
        raise fault("instructions", "must be a string")
    return (Message("system", value),)


def _max_tokens(value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise fault("max_output_tokens", "must be a whole number of at least 1")
    return value


def _params(body: Mapping[str, Any]) -> dict[str, Any]:
    """Everything else by its name in chat completions; what we don't know keeps its own."""
    params = {n: value for n, value in body.items() if n not in _OURS and value is not None}
    temperature = params.get("temperature")
    if temperature is not None and not isinstance(temperature, int | float):
        raise fault("temperature", "must be a number")
    if body.get("tools"):
        params["tools"] = _tools(body["tools"])
    else:
        params.pop("parallel_tool_calls", None)
    if body.get("tool_choice") is not None and "tools" in params:
        params["tool_choice"] = _tool_choice(body["tool_choice"])
    return {
        **params,
        **_text(body.get("text")),
        **_reasoning(body.get("reasoning")),
        **_logprobs(body),
    }


def _tools(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        raise fault("tools", "must be an array")
    return [_tool(tool, f"tools[{index}]") for index, tool in enumerate(value)]


def _tool(tool: Any, where: str) -> dict[str, Any]:
    if not isinstance(tool, dict):
        raise fault(where, "must be an object")
    if tool.get("type") != "function":
        raise fault(
            f"{where}.type",
            f"{tool.get('type')!r} is not supported: experts here take tools of type 'function'",
        )
    check_name(tool.get("name"), f"{where}.name")
    function = {
        name: tool[name]
        for name in ("name", "description", "parameters", "strict")
        if tool.get(name) is not None
    }
    return {"type": "function", "function": function}


def _tool_choice(value: Any) -> Any:
    if value in ("auto", "none", "required"):
        return value
    if isinstance(value, dict) and value.get("type") == "function":
        return {"type": "function", "function": {"name": value.get("name")}}
    if isinstance(value, dict) and value.get("type") == "allowed_tools":
        tools = value.get("tools")
        if isinstance(tools, list) and all(isinstance(tool, dict) for tool in tools):
            named = [{"type": "function", "function": {"name": t.get("name")}} for t in tools]
            allowed = {"mode": value.get("mode", "auto"), "tools": named}
            return {"type": "allowed_tools", "allowed_tools": allowed}
    raise fault(
        "tool_choice", "must be 'auto', 'none', 'required', a function by name, or allowed_tools"
    )


def _text(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise fault("text", "must be an object")
    params = {"verbosity": value["verbosity"]} if value.get("verbosity") else {}
    wanted = value.get("format") or {"type": "text"}
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if kind == "json_schema":
        schema = {name: part for name, part in wanted.items() if name != "type"}
        params["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif kind == "json_object":
        params["response_format"] = {"type": "json_object"}
    elif kind != "text":
        raise fault("text.format.type", "must be 'text', 'json_schema' or 'json_object'")
    return params


def _reasoning(value: Any) -> dict[str, Any]:
    if value is not None and not isinstance(value, dict):
        raise fault("reasoning", "must be an object")
    return {"reasoning_effort": value["effort"]} if value and value.get("effort") else {}


def _logprobs(body: Mapping[str, Any]) -> dict[str, Any]:
    include = body.get("include") or []
    if not isinstance(include, list):
        raise fault("include", "must be an array")
    top = body.get("top_logprobs")
    if top is not None and (isinstance(top, bool) or not isinstance(top, int)):
        raise fault("top_logprobs", "must be a whole number")
    if not top and "message.output_text.logprobs" not in include:
        return {}
    return {"logprobs": True, **({"top_logprobs": top} if top else {})}
