"""OpenAI's chat bodies out: completions, chunks and usage from events. Pure."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from experts.messages import Completion, Delta, Event, Finish, Usage

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Envelope:
    """What every chunk of one answer repeats."""

    decision_id: str
    expert: str
    created: int = field(default_factory=lambda: int(time.time()))

    def fields(self, kind: str) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{self.decision_id}",
            "object": kind,
            "created": self.created,
            "model": self.expert,
        }


def usage_json(usage: Usage) -> dict[str, Any]:
    """OpenAI's usage object; parts that are counted nowhere else are in the details."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    }


def completion_json(envelope: Envelope, completion: Completion, usage: Usage) -> bytes:
    """The whole body of an answer that is not streamed."""
    choices = [
        {
            "index": index,
            "message": {
                "role": "assistant",
                "content": choice.text if choice.text or not choice.tool_calls else None,
                **({"tool_calls": list(choice.tool_calls)} if choice.tool_calls else {}),
                **choice.fields,
            },
            "logprobs": choice.logprobs,
            "finish_reason": choice.finish_reason,
        }
        for index, choice in enumerate(completion.choices)
    ]
    body = {
        **envelope.fields("chat.completion"),
        "choices": choices,
        "usage": usage_json(usage),
    }
    return orjson.dumps(body)


class ChunkWriter:
    """Events to server-sent chunks, each complete as it is returned: nothing is held back."""

    def __init__(self, envelope: Envelope) -> None:
        self._fields = envelope.fields("chat.completion.chunk")
        self._begun: set[int] = set()

    def write(self, event: Event) -> Iterator[bytes]:
        if isinstance(event, Usage):
            return
        if event.choice not in self._begun:
            self._begun.add(event.choice)
            yield self._chunk(event.choice, {"role": "assistant", "content": ""})
        if isinstance(event, Finish):
            yield self._chunk(event.choice, {}, finish_reason=event.reason)
        else:
            yield self._chunk(event.choice, _delta_json(event), logprobs=event.logprobs)

    def usage(self, usage: Usage, cost_usd: float | None) -> bytes:
        """The last chunk of a stream whose client asked for usage; `cost_usd` is our addition."""
        body = {**usage_json(usage), "cost_usd": cost_usd}
        return sse({**self._fields, "choices": [], "usage": body})

    def _chunk(
        self,
        choice: int,
        delta: dict[str, Any],
        finish_reason: str | None = None,
        logprobs: Any = None,
    ) -> bytes:
        body = {"index": choice, "delta": delta, "finish_reason": finish_reason}
        if logprobs is not None:
            body["logprobs"] = logprobs
        return sse({**self._fields, "choices": [body]})


def _delta_json(delta: Delta) -> dict[str, Any]:
    body: dict[str, Any] = dict(delta.fields)
    if delta.text:
        body["content"] = delta.text
    if delta.tool_calls:
        body["tool_calls"] = list(delta.tool_calls)
    return body


def sse(data: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + orjson.dumps(data) + b"\n\n"
