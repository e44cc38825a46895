"""Anthropic's messages out: whole messages, stream events and usage from events. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import orjson
from pydantic_core import from_json

from experts.messages import Choice, Completion, Event, Finish, Json, Usage
from gateway.api.blocks_out import BlockEvents
from gateway.api.front import Envelope
from gateway.errors import ApiError

_REASONS = {
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
_EMPTY = Choice("", None)
_PING: Json = {"type": "ping"}


def usage_json(usage: Usage, reported: Json) -> dict[str, Any]:
    """Anthropic's usage object, over what the provider `reported` in the same shape, if it did."""
    return {
        **reported,
        "input_tokens": usage.input,
        "cache_creation_input_tokens": usage.cache_write,
        "cache_read_input_tokens": usage.cache_read,
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"thinking_tokens": usage.reasoning},
    }


def message_json(envelope: Envelope, completion: Completion, usage: Usage) -> bytes:
    """The whole body of an answer that is not streamed: the stream's events put together."""
    choice = completion.choices[0] if completion.choices else _EMPTY
    blocks, finish = BlockEvents(), Finish("stop")
    events: list[Json] = []
    for event in choice.events():
        if isinstance(event, Finish):
            finish = event
        else:
            events += blocks.add(event)
    events += blocks.close()
    body = {
        **(finish.opaque.get("about") or {}),
        **_message(envelope),
        "content": _content(events),
        **_end(finish, blocks),
        "usage": usage_json(usage, finish.opaque.get("usage") or {}),
    }
    return orjson.dumps(body)


def error_json(failure: ApiError, request_id: str) -> dict[str, Any]:
    """Anthropic's error body; `request_id` is the decision's id, if it came to one."""
    kind = _TYPES.get(failure.status, "api_error" if failure.status >= 500 else None)
    error = {"type": kind or "invalid_request_error", "message": failure.message}
    return {
        "type": "error",
        "error": {**error, "code": failure.code, "param": failure.param},
        "request_id": request_id,
    }


class MessageWriter:
    """Events to Anthropic's stream."""

    def __init__(self, envelope: Envelope) -> None:
        self._envelope = envelope
        self._blocks = BlockEvents()
        self._begun = False
        self._finish = Finish("stop")

    def write(self, event: Event) -> Iterator[bytes]:
        yield from self._begin()
        if isinstance(event, Usage) or event.choice:
            return
        if isinstance(event, Finish):
            self._finish = event
            return
        said = [sse(piece) for piece in self._blocks.add(event)]
        yield from said or [sse(_PING)]

    def end(self, usage: Usage, cost_usd: float | None) -> Iterator[bytes]:
        """The end of the last block, the reason, and the usage with `cost_usd` as our addition."""
        yield from self._begin()
        for piece in self._blocks.close():
            yield sse(piece)
        counts = usage_json(usage, self._finish.opaque.get("usage") or {})
        delta = _end(self._finish, self._blocks)
        about = self._finish.opaque.get("about") or {}
        told = {"delta": delta, "usage": {**counts, "cost_usd": cost_usd}}
        yield sse({"type": "message_delta", **about, **told})
        yield sse({"type": "message_stop"})

    def fail(self, failure: ApiError) -> Iterator[bytes]:
        """An error event, and no `message_stop`."""
        yield sse(error_json(failure, self._envelope.decision_id))

    def _begin(self) -> Iterator[bytes]:
        if self._begun:
            return
        self._begun = True
        start = {"stop_reason": None, "stop_sequence": None, "usage": usage_json(Usage(), {})}
        message = {**_message(self._envelope), "content": [], **start}
        yield sse({"type": "message_start", "message": message})
        yield sse(_PING)


def sse(data: Json) -> bytes:
    """One server-sent event, named after its type."""
    return b"event: %s\ndata: %s\n\n" % (str(data["type"]).encode(), orjson.dumps(data))


def _message(envelope: Envelope) -> dict[str, Any]:
    return {
        "id": f"msg_{envelope.decision_id}",
        "type": "message",
        "role": "assistant",
        "model": envelope.expert,
    }


def _end(finish: Finish, blocks: BlockEvents) -> dict[str, Any]:
    """`stop_reason` and what goes with it, as the provider said it if it speaks the same wire."""
    said = {n: value for n, value in finish.opaque.items() if n not in ("usage", "about")}
    ours = {"stop_reason": _reason(finish, blocks), "stop_sequence": finish.stop}
    return {**ours, **said}


def _reason(finish: Finish, blocks: BlockEvents) -> str:
    reason = _REASONS.get(finish.reason)
    if reason:
        return reason
    # Some say "stop" after calls too, but the client's tool loop goes by this word.
    if blocks.has_calls:
        return "tool_use"
    if blocks.has_refusal:
        return "refusal"
    return "stop_sequence" if finish.stop is not None else "end_turn"


def _content(events: Iterable[Json]) -> list[dict[str, Any]]:
    """The blocks that a client has after these events."""
    blocks: list[dict[str, Any]] = []
    inputs: dict[int, str] = {}
    for event in events:
        if event["type"] == "content_block_start":
            blocks.append(dict(event["content_block"]))
        elif event["type"] == "content_block_delta":
            index, delta = event["index"], event["delta"]
            if delta.get("type") == "input_json_delta":
                inputs[index] = inputs.get(index, "") + str(delta.get("partial_json") or "")
            else:
                _grow(blocks[index], delta)
    for index, text in inputs.items():
        if text:
            blocks[index]["input"] = _input(text)
    return blocks


def _grow(block: dict[str, Any], delta: Json) -> None:
    if delta.get("type") == "citations_delta":
        block["citations"] = [*(block.get("citations") or ()), delta.get("citation")]
        return
    for name, value in delta.items():
        if name != "type":
            before = block.get(name)
            joins = isinstance(before, str) and isinstance(value, str)
            block[name] = f"{before}{value}" if joins else value


def _input(text: str) -> dict[str, Any]:
    """A call's input as far as it was written, like clients put a stream's pieces together."""
    try:
        parsed = from_json(text, allow_partial=True)
    except ValueError:
        parsed = None
    return parsed if isinstance(parsed, dict) else {"arguments": text}
