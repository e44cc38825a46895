"""OpenAI's chat bodies out: completions, chunks and usage from events. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from experts.messages import Choice, Completion, Delta, Event, Finish, Json, Usage
from gateway.api.front import Envelope
from gateway.errors import ApiError

DONE = b"data: [DONE]\n\n"


def _fields(envelope: Envelope, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{envelope.decision_id}",
        "object": kind,
        "created": envelope.created,
        "model": envelope.expert,
    }


def chunk_fields(envelope: Envelope) -> dict[str, Any]:
    """What every chunk of a stream says."""
    return _fields(envelope, "chat.completion.chunk")


def usage_json(usage: Usage) -> dict[str, Any]:
    """OpenAI's usage object, over what a provider of this wire reported, if it did."""
    said = usage.reported
    read, written = said.get("prompt_tokens_details"), said.get("completion_tokens_details")
    stored = {"cache_write_tokens": usage.cache_write} if usage.cache_write else {}
    return {
        **said,
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {**(read or {}), "cached_tokens": usage.cache_read, **stored},
        "completion_tokens_details": {**(written or {}), "reasoning_tokens": usage.reasoning},
    }


def completion_json(envelope: Envelope, completion: Completion, usage: Usage) -> bytes:
    """The whole body of an answer that is not streamed."""
    choices = [
        {
            "index": index,
            "message": {
                "role": "assistant",
                "content": _content(choice),
                **({"tool_calls": list(choice.tool_calls)} if choice.tool_calls else {}),
                **({"reasoning_content": choice.reasoning} if choice.reasoning else {}),
                **choice.fields,
            },
            "logprobs": choice.logprobs,
            **choice.finish_fields,
            "finish_reason": choice.finish_reason,
        }
        for index, choice in enumerate(completion.choices)
    ]
    body = {
        **completion.fields,
        **_fields(envelope, "chat.completion"),
        "choices": choices,
        "usage": usage_json(usage),
    }
    return orjson.dumps(body)


def _content(choice: Choice) -> str | None:
    # What speaks instead of a text: calls, a refusal, sound.
    instead = choice.tool_calls or choice.fields.get("refusal") or choice.fields.get("audio")
    return choice.text if choice.text or not instead else None


class ChunkWriter:
    """Events to server-sent chunks."""

    def __init__(self, envelope: Envelope, *, include_usage: bool) -> None:
        self._include_usage = include_usage
        self._fields = chunk_fields(envelope)
        self._answer: Json = {}
        self._begun = 0

    def go_on(self, fields: Json, begun: int) -> None:
        """Write on behind chunks that somebody else wrote.

        Args:
            fields: What each of them said beside its choices.
            begun: How many choices have begun.
        """
        self._fields = {**self._fields, **fields}
        self._begun = begun

    def write(self, event: Event) -> Iterator[bytes]:
        if isinstance(event, Usage):
            return
        # In order, whoever speaks first: clients count on a stream that begins with choice 0.
        while self._begun <= event.choice:
            yield self._chunk(self._begun, {"role": "assistant", "content": ""}, {})
            self._begun += 1
        if isinstance(event, Finish):
            self._answer = {**self._answer, **event.answer}
            ending = {**event.fields, "finish_reason": event.reason}
            yield self._chunk(event.choice, {}, ending)
        else:
            spoken = {"logprobs": event.logprobs} if event.logprobs else {}
            yield self._chunk(event.choice, _delta_json(event), spoken)

    def end(self, usage: Usage, cost_usd: float | None) -> Iterator[bytes]:
        """Usage for a client that asked for it, with `cost_usd` as our addition, and `[DONE]`."""
        if self._include_usage:
            yield usage_chunk({**self._answer, **usage.answer, **self._fields}, usage, cost_usd)
        yield DONE

    def fail(self, failure: ApiError) -> Iterator[bytes]:
        """An error event without `[DONE]`."""
        yield sse(failure.body())

    def _chunk(self, choice: int, delta: dict[str, Any], more: Json) -> bytes:
        body = {"index": choice, "delta": delta, "finish_reason": None, **more}
        usage = {"usage": None} if self._include_usage else {}
        return sse({**self._answer, **self._fields, "choices": [body], **usage})


def _delta_json(delta: Delta) -> dict[str, Any]:
    body: dict[str, Any] = dict(delta.fields)
    if delta.text:
        body["content"] = delta.text
    if delta.reasoning:
        body["reasoning_content"] = delta.reasoning
    if delta.tool_calls:
        body["tool_calls"] = list(delta.tool_calls)
    return body


def usage_chunk(about: dict[str, Any], usage: Usage, cost_usd: float | None) -> bytes:
    """The last event before `[DONE]`: no choices, and what all of them took."""
    body = {**usage_json(usage), "cost_usd": cost_usd}
    return sse({**about, "choices": [], "usage": body})


def sse(data: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + orjson.dumps(data) + b"\n\n"
