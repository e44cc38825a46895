"""OpenAI's JSON for upstream calls: requests out, events in. Pure; no HTTP.

Two dialects: chat completions, and legacy completions for base models that need a few-shot prompt.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import orjson

from experts.cards import FewShotPrompt
from experts.dialect import Reader
from experts.messages import ChatRequest, Delta, Event, Finish, Json, Message, Usage

_COMPLETION_PARAMS = (
    "temperature",
    "top_p",
    "seed",
    "n",
    "frequency_penalty",
    "presence_penalty",
)


_KNOWN = ("role", "content", "tool_calls", "reasoning_content", "reasoning")


class ChatDialect:
    """`/chat/completions`: the conversation goes through as it came."""

    path = "chat/completions"

    def body(self, request: ChatRequest, model: str) -> dict[str, Any]:
        body = {
            **request.params,
            "model": model,
            "messages": [message_json(message) for message in request.messages],
        }
        if request.max_tokens is not None and "max_completion_tokens" not in body:
            body["max_tokens"] = request.max_tokens
        return _with_stream(body, request)

    def headers(self, request: ChatRequest) -> dict[str, str]:
        return {}

    def reader(self) -> Reader:
        return self._events

    def _events(self, data: Json) -> Iterator[Event]:
        for choice in data.get("choices") or ():
            index = int(choice.get("index") or 0)
            piece = choice.get("delta") or choice.get("message") or {}
            delta = _delta(piece, index, choice.get("logprobs"))
            if delta is not None:
                yield delta
            if choice.get("finish_reason"):
                # vLLM's word for the stop sequence; for a stop token it is a number.
                stop = choice.get("stop_reason")
                yield Finish(
                    str(choice["finish_reason"]), index, stop if isinstance(stop, str) else None
                )
        yield from usage_events(data)


class CompletionsDialect:
    """`/completions`: a base model continues the few-shot prompt of its card.

    Earlier question-and-answer turns of the conversation become further examples.
    """

    path = "completions"

    def __init__(self, prompt: FewShotPrompt) -> None:
        self._prompt = prompt

    def body(self, request: ChatRequest, model: str) -> dict[str, Any]:
        wanted = request.params.get("stop") or []
        stops = [wanted] if isinstance(wanted, str) else list(wanted)
        body: dict[str, Any] = {
            "model": model,
            "prompt": self._prompt.render(request.question, _earlier_turns(request)),
            "stop": [*self._prompt.stop, *stops],
            **{name: request.params[name] for name in _COMPLETION_PARAMS if name in request.params},
        }
        if request.max_tokens is not None:
            body["max_tokens"] = request.max_tokens
        return _with_stream(body, request)

    def headers(self, request: ChatRequest) -> dict[str, str]:
        return {}

    def reader(self) -> Reader:
        begun: set[int] = set()

        def events(data: Json) -> Iterator[Event]:
            for choice in data.get("choices") or ():
                index, text = int(choice.get("index") or 0), str(choice.get("text") or "")
                # The answer follows a colon, so it begins with the space between them.
                text = text if index in begun else text.lstrip()
                if text:
                    begun.add(index)
                    yield Delta(text, index)
                if choice.get("finish_reason"):
                    yield Finish(str(choice["finish_reason"]), index)
            yield from usage_events(data)

        return events


def message_json(message: Message) -> dict[str, Any]:
    """A message in OpenAI's shape, every field as it came but those that we added to an answer."""
    content = list(message.content) if isinstance(message.content, tuple) else message.content
    body = {**message.fields, "role": message.role, "content": content}
    body.pop("thinking_blocks", None)
    return body


def usage_events(data: Json) -> Iterator[Usage]:
    """The disjoint token counts of an answer or a final chunk, if it has any."""
    usage = data.get("usage")
    if not usage:
        return
    prompt, completion = int(usage.get("prompt_tokens") or 0), _completion_tokens(usage)
    cached = _detail(usage, "prompt_tokens_details", "cached_tokens", prompt)
    reasoning = _detail(usage, "completion_tokens_details", "reasoning_tokens", completion)
    yield Usage(prompt - cached, cached, 0, completion - reasoning, reasoning)


def _completion_tokens(usage: Json) -> int:
    return int(usage.get("completion_tokens") or 0)


def _detail(usage: Json, group: str, name: str, at_most: int) -> int:
    # A part that exceeds its whole is a provider's slip; billing it would count tokens twice.
    return min(int((usage.get(group) or {}).get(name) or 0), at_most)


def _with_stream(body: dict[str, Any], request: ChatRequest) -> dict[str, Any]:
    if request.stream:
        body["stream"] = True
        body["stream_options"] = {"include_usage": True}
    return body


def _delta(piece: Json, index: int, logprobs: Json | None) -> Delta | None:
    text = _text(piece.get("content"))
    calls = tuple(_tool_call(call) for call in piece.get("tool_calls") or ())
    # DeepSeek's word, and vLLM's newer one.
    reasoning = _text(piece.get("reasoning_content") or piece.get("reasoning"))
    fields = {name: value for name, value in piece.items() if name not in _KNOWN and value}
    if not (text or calls or reasoning or fields or logprobs):
        return None
    return Delta(text, index, calls, reasoning, fields, logprobs)


def _text(content: Any) -> str:
    """Text as a string or, from some providers, as a list of parts."""
    if isinstance(content, list):
        return "".join(_text(part.get("text")) for part in content)
    return content if isinstance(content, str) else ""


def _tool_call(piece: Json) -> Json:
    function = dict(piece.get("function") or {})
    arguments = function.get("arguments")
    if arguments is not None and not isinstance(arguments, str):
        # Some providers send the arguments parsed; the format wants them as text.
        function["arguments"] = orjson.dumps(arguments).decode()
    return {**piece, "function": function} if function else piece


def _earlier_turns(request: ChatRequest) -> tuple[tuple[str, str], ...]:
    said = [message for message in request.messages if message.role in ("user", "assistant")]
    return tuple(
        (asked.text, answer.text)
        for asked, answer in pairwise(said)
        if (asked.role, answer.role) == ("user", "assistant")
    )
