"""OpenAI's Responses out: the response object and its stream of events. Pure."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from experts.messages import Completion, Delta, Event, Finish, Json, Usage
from gateway.api.front import Envelope
from gateway.api.responses_events import ItemEvents
from gateway.api.responses_in import wants_summary
from gateway.errors import ApiError

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
_ECHOED: Mapping[str, Any] = {
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "service_tier": None,
    "temperature": None,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": None,
    "truncation": "disabled",
    "user": None,
}
"""Fields of a request that its response repeats, and what they are when nobody said."""


def response_id(decision_id: str) -> str:
    """The id of the response to a decision."""
    return f"resp_{decision_id}"


def decision_of(item_id: str) -> str | None:
    """The decision that an output item came from, by its id; None for an item of somebody else."""
    parts = item_id.split("_")
    return parts[1] if len(parts) == 3 and parts[1].startswith("dec-") else None


def usage_json(usage: Usage, cost_usd: float | None = None) -> dict[str, Any]:
    """Responses' usage object; `cost_usd` is our addition."""
    cost = {} if cost_usd is None else {"cost_usd": cost_usd}
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cache_read,
            "cache_write_tokens": usage.cache_write,
        },
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        **cost,
    }


class ResponseWriter:
    """One answer as Responses tell it, streamed or whole: both come from the same events.

    Args:
        body: The request.
        envelope: Who answers.

    Attributes:
        stored: What the response says of being kept; set before it ends.
    """

    def __init__(self, body: Json, envelope: Envelope) -> None:
        self.stored = False
        self._body = body
        self._envelope = envelope
        self._items = ItemEvents(envelope.decision_id, summary=wants_summary(body))
        self._finish: Finish | None = None
        self._told = 0
        self._begun = False

    @property
    def output(self) -> list[dict[str, Any]]:
        """The items so far."""
        return self._items.output

    def write(self, event: Event) -> Iterator[bytes]:
        yield from self._begin()
        for said in self._said(event):
            yield self._event(said)

    def end(self, usage: Usage, cost_usd: float | None) -> Iterator[bytes]:
        yield from self._begin()
        for said in self._items.close(whole=self._reason is None):
            yield self._event(said)
        status = "incomplete" if self._reason else "completed"
        body = self.response(status, usage_json(usage, cost_usd))
        yield self._event({"type": f"response.{status}", "response": body})

    def fail(self, failure: ApiError) -> Iterator[bytes]:
        """The response as failed, then an error that clients raise; nothing that ends it well."""
        yield from self._begin()
        # Nothing is kept of an answer that broke.
        self.stored = False
        for said in self._items.close(whole=False):
            yield self._event(said)
        error = {"code": failure.code or failure.type, "message": failure.message}
        failed = {**self.response("failed", None), "error": error}
        yield self._event({"type": "response.failed", "response": failed})
        more = {"param": failure.param, **failure.body()}
        yield self._event({"type": "error", **error, **more})

    def whole(self, completion: Completion, usage: Usage) -> dict[str, Any]:
        """The response object of an answer that is not streamed."""
        for choice in completion.choices[:1]:
            for event in choice.events():
                for _ in self._said(event):
                    pass
        for _ in self._items.close(whole=self._reason is None):
            pass
        return self.response("incomplete" if self._reason else "completed", usage_json(usage))

    def response(self, status: str, usage: Json | None) -> dict[str, Any]:
        """The response object as it is now."""
        said = {name: self._body.get(name) for name in _ECHOED}
        done = status in ("completed", "incomplete")
        answer = self._finish.answer if self._finish else {}
        tier = {n: answer[n] for n in ("service_tier",) if n in answer}
        return {
            **{name: _ECHOED[name] if value is None else value for name, value in said.items()},
            **tier,
            "id": response_id(self._envelope.decision_id),
            "object": "response",
            "created_at": self._envelope.created,
            "completed_at": int(time.time()) if done else None,
            "status": status,
            "background": False,
            "error": None,
            "incomplete_details": {"reason": self._reason} if self._reason else None,
            "model": self._envelope.expert,
            "output": self.output,
            "store": self.stored,
            "usage": usage,
        }

    @property
    def _reason(self) -> str | None:
        """Why the answer is not complete, if it is not."""
        return _INCOMPLETE.get(self._finish.reason) if self._finish else None

    def _said(self, event: Event) -> Iterator[dict[str, Any]]:
        if isinstance(event, Delta) and event.choice == 0:
            yield from self._items.add(event)
        elif isinstance(event, Finish) and event.choice == 0:
            self._finish = event

    def _begin(self) -> Iterator[bytes]:
        if not self._begun:
            self._begun = True
            for kind in ("response.created", "response.in_progress"):
                body = self.response("in_progress", None)
                yield self._event({"type": kind, "response": body})

    def _event(self, said: dict[str, Any]) -> bytes:
        data = orjson.dumps({**said, "sequence_number": self._told})
        self._told += 1
        kind = str(said["type"]).encode()
        return b"event: " + kind + b"\ndata: " + data + b"\n\n"
