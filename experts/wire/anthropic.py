"""Anthropic's messages API for upstream calls: the request out. Pure; no HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from experts.cards import ExpertCard
from experts.errors import ExpertUnsupportedError
from experts.messages import ChatRequest, Json
from experts.wire.anthropic_reader import MessageReader
from experts.wire.anthropic_turns import WIRE, Block, UnsaidError, conversation, saying
from experts.wire.dialect import Reader, with_echo

JSON_TOOL = "answer_as_json"
"""The tool that stands for a JSON answer; its calls are read as text."""

DEFAULT_MAX_TOKENS = 4096
"""The wire wants a limit; this is it when neither the request nor the card says one."""

_MIN_BUDGET = 1024
_BUDGETS = {
    "minimal": 1024,
    "low": 2048,
    "medium": 8192,
    "high": 16384,
    "xhigh": 32768,
    "max": 65536,
}
_OURS = ("model", "stream", "pointsman")


@dataclass(frozen=True, slots=True)
class Habits:
    """What differs between models and servers that speak this wire.

    Attributes:
        thinking: How an effort is said: `adaptive` with `output_config.effort`, or a `budget` of
            tokens for models before that.
        json_by: How an answer is bound to a JSON schema: `output_config.format`, or a `tool` that
            the model must call, for servers that lack the former.
        betas: Names for the `anthropic-beta` header of every request.
    """

    thinking: Literal["adaptive", "budget"] = "adaptive"
    json_by: Literal["format", "tool"] = "format"
    betas: tuple[str, ...] = ()


class AnthropicDialect:
    """`/messages`: a body of the same wire goes through as it came, any other is translated."""

    path = "messages"

    def __init__(self, card: ExpertCard, habits: Habits) -> None:
        self._card = card
        self._habits = habits

    def body(self, request: ChatRequest, model: str) -> dict[str, Any]:
        body = {**self._said(request), "model": model}
        return {**body, "stream": True} if request.stream else body

    def headers(self, request: ChatRequest) -> dict[str, str]:
        betas = list(self._habits.betas)
        if request.source is not None and request.source_on(WIRE) is not None:
            asked = request.source.headers.get("anthropic-beta", "").split(",")
            betas += [name for part in asked if (name := part.strip()) and name not in betas]
        return {"anthropic-beta": ",".join(betas)} if betas else {}

    def reader(self, request: ChatRequest) -> Reader:
        return with_echo(MessageReader(JSON_TOOL), request)

    def counting_body(self, request: ChatRequest, model: str) -> dict[str, Any]:
        """What `/messages/count_tokens` takes."""
        body = self._said(request)
        wanted = ("messages", "system", "tools", "tool_choice", "thinking", "output_config")
        return {"model": model, **{name: body[name] for name in wanted if name in body}}

    def _said(self, request: ChatRequest) -> dict[str, Any]:
        as_it_came = request.source_on(WIRE)
        if as_it_came is not None:
            body = {name: value for name, value in as_it_came.items() if name not in _OURS}
            thinking = body.get("thinking") or {}
            if thinking.get("type") == "enabled" and _goes_on_without_thought(body["messages"]):
                # Another expert made those calls; with thinking on, this one would refuse them.
                del body["thinking"]
            return body
        try:
            return self._translated(request)
        except UnsaidError as error:
            expert_id = self._card.expert_id
            raise ExpertUnsupportedError(expert_id, str(error), param=error.param) from error

    def _translated(self, request: ChatRequest) -> dict[str, Any]:
        params = dict(request.params)
        with saying("n"):
            if (params.pop("n", None) or 1) > 1:
                raise UnsaidError("n", "Anthropic's API writes one answer per request")
        with saying("messages"):
            system, turns = conversation(request.messages)
        body: dict[str, Any] = {"max_tokens": self._limit(request), "messages": turns}
        if "output_config" in params:
            body["output_config"] = params.pop("output_config")
        if system:
            body["system"] = system
        with saying("tools"):
            body |= _tools(params)
        with saying("response_format"):
            body |= self._format(params, body)
        with saying("reasoning_effort"):
            body |= self._effort(params.pop("reasoning_effort", None), body, turns)
        for name, (param, say) in _SAID.items():
            with saying(param):
                for value in say(params):
                    body[name] = value
        for name in _SILENT if request.task == "chat" else (*_SILENT, *_OF_COMPLETIONS):
            params.pop(name, None)
        return {**{name: value for name, value in params.items() if value is not None}, **body}

    def _limit(self, request: ChatRequest) -> int:
        if request.max_tokens is not None:
            return request.max_tokens
        return self._card.max_output_tokens or DEFAULT_MAX_TOKENS

    def _format(self, params: dict[str, Any], body: Json) -> dict[str, Any]:
        """`response_format` by the wire's own field or by a tool that must be called."""
        wanted = params.pop("response_format", None) or {}
        if wanted.get("type") not in ("json_schema", "json_object"):
            return {}
        schema = (wanted.get("json_schema") or {}).get("schema")
        if schema is not None and self._habits.json_by == "format":
            bound = {"format": {"type": "json_schema", "schema": schema}}
            return {"output_config": {**body.get("output_config", {}), **bound}}
        described = (wanted.get("json_schema") or {}).get("description")
        tool = {
            "name": JSON_TOOL,
            "description": described or "Give the answer as one JSON object.",
            "input_schema": schema or {"type": "object"},
        }
        others, asked = list(body.get("tools") or ()), body.get("tool_choice") or {}
        choice: dict[str, Any] = {"type": "tool", "name": JSON_TOOL}
        if others and asked.get("type") != "none":
            one_by_one = {n: v for n, v in asked.items() if n == "disable_parallel_tool_use"}
            choice = {"type": "any", **one_by_one}
        return {"tools": [*others, tool], "tool_choice": choice}

    def _effort(self, effort: Any, body: Json, turns: list[Block]) -> dict[str, Any]:
        """OpenAI's `reasoning_effort` as thinking."""
        if effort is None:
            return {}
        if effort == "none":
            return {"thinking": {"type": "disabled"}}
        if body.get("tool_choice", {}).get("type") in ("any", "tool"):
            # The wire refuses thought before a call that must be made.
            return {}
        if self._habits.thinking == "adaptive":
            config = {**body.get("output_config", {}), "effort": _level(effort)}
            return {"thinking": {"type": "adaptive"}, "output_config": config}
        budget = min(_budget(effort), body["max_tokens"] - 1)
        if budget < _MIN_BUDGET or _goes_on_without_thought(turns):
            return {}
        return {"thinking": {"type": "enabled", "budget_tokens": budget}}


def _level(effort: Any) -> str:
    if effort not in _BUDGETS:
        raise UnsaidError("reasoning_effort", f"must be none or one of {', '.join(_BUDGETS)}")
    return "low" if effort == "minimal" else str(effort)


def _budget(effort: Any) -> int:
    _level(effort)
    return _BUDGETS[effort]


def _goes_on_without_thought(turns: list[Block]) -> bool:
    """Whether the last calls came without the thought that the wire wants to see before them."""
    asked = [turn["content"] for turn in turns if turn["role"] == "assistant"]
    last = asked[-1] if asked and isinstance(asked[-1], list) else []
    kinds = [block.get("type") for block in last]
    return "tool_use" in kinds and kinds[0] not in ("thinking", "redacted_thinking")


def _tools(params: dict[str, Any]) -> dict[str, Any]:
    if params.pop("functions", None) or params.pop("function_call", None):
        raise UnsaidError("functions", "not understood by an Anthropic expert; use tools")
    choice = _choice(params.pop("tool_choice", None))
    parallel = params.pop("parallel_tool_calls", None)
    tools = [_tool(tool, index) for index, tool in enumerate(params.pop("tools", None) or ())]
    if not tools:
        return {}
    if parallel is False and (choice is None or choice["type"] != "none"):
        choice = {**(choice or {"type": "auto"}), "disable_parallel_tool_use": True}
    return {"tools": tools, **({"tool_choice": choice} if choice else {})}


def _tool(tool: Any, index: int) -> Block:
    where = f"tools[{index}]"
    if not isinstance(tool, dict):
        raise UnsaidError(where, "must be an object")
    function = tool.get("function")
    if tool.get("type") != "function" and function is None and "custom" not in tool:
        # One of Anthropic's own, which it runs itself.
        return tool
    if not isinstance(function, dict):
        raise UnsaidError(where, f"a tool of type {tool.get('type')!r} can't be sent")
    kept = {
        n: function[n] for n in ("name", "description", "strict") if function.get(n) is not None
    }
    if "cache_control" in tool:
        kept["cache_control"] = tool["cache_control"]
    schema = function.get("parameters") or {"type": "object", "properties": {}}
    return {**kept, "input_schema": schema}


_CHOICES = {"auto": "auto", "none": "none", "required": "any"}


def _choice(choice: Any) -> Block | None:
    if choice is None:
        return None
    if isinstance(choice, str) and choice in _CHOICES:
        return {"type": _CHOICES[choice]}
    if isinstance(choice, dict) and isinstance(choice.get("function"), dict):
        return {"type": "tool", "name": choice["function"].get("name")}
    raise UnsaidError("tool_choice", "must be auto, none, required or a function")


def _stops(params: dict[str, Any]) -> Iterator[Any]:
    stop = params.pop("stop", None)
    if stop:
        yield [stop] if isinstance(stop, str) else list(stop)


def _user(params: dict[str, Any]) -> Iterator[Any]:
    # OpenAI's metadata are labels for its own dashboard; only the user has a place here.
    metadata = params.pop("metadata", None) or {}
    user = params.pop("user", None) or params.pop("safety_identifier", None)
    user = user or metadata.get("user_id")
    if user:
        yield {"user_id": user}


def _tier(params: dict[str, Any]) -> Iterator[Any]:
    tier = {"auto": "auto", "default": "standard_only", "standard_only": "standard_only"}.get(
        str(params.pop("service_tier", None))
    )
    if tier:
        yield tier


_SAID: Mapping[str, tuple[str, Callable[[dict[str, Any]], Iterator[Any]]]] = {
    "stop_sequences": ("stop", _stops),
    "metadata": ("metadata", _user),
    "service_tier": ("service_tier", _tier),
}
"""Anthropic's name for a field, OpenAI's, and what becomes of it."""
_SILENT = ("max_completion_tokens", "store", "prompt_cache_key", "prompt_cache_retention")
"""Fields that change nothing about the answer, or were read already."""
_OF_COMPLETIONS = ("echo", "best_of")
"""The same of a prompt to be continued: the reader puts it before its one answer."""
