"""An answer that is not streamed, from the provider's bytes to the client's. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from experts.messages import Delta, Event, Finish, Json, Usage
from experts.wire.depth import load_json
from experts.wire.dialect import Reader
from experts.wire.openai_reading import fields_of, usage_events
from experts.wire.reading import StreamReader, whole_answer
from experts.wire.refusals import FAILED_ENDS
from experts.wire.shapes import logprobs_of
from gateway.fast.naming import ModelName


class Whole(NamedTuple):
    """A whole answer.

    Attributes:
        body: What the client gets, if the provider's bytes are fit for it; else None.
        events: What is said instead, if they are not.
        usage: Tokens as reported, if they were.
        finish_reason: Of the last choice.
        text: The first choice's.
        seen: All that was written, in pieces.
    """

    body: bytes | None
    events: list[Event]
    usage: Usage | None
    finish_reason: str | None
    text: str
    seen: tuple[str, ...]


def read_whole(
    expert_id: str, read: Reader, raw: bytes, asked: int, name: ModelName | None
) -> Whole:
    """What `raw` says; it goes through as it is if it is all that a client counts on.

    Args:
        expert_id: Whose answer it is, for errors.
        read: The dialect's reader.
        raw: The body.
        asked: How many choices were asked for.
        name: Puts our name into it; None: events are wanted, whatever it is.

    Raises:
        ExpertCallError: It is an error, no JSON, or has no finished choice.
    """
    data = None if name is None else _parsed(raw)
    if data is not None and not is_standard(data, asked):
        data = None
    usage = None if data is None else next(usage_events(data), None)
    if name is not None and data is not None and usage is not None:
        choices = data["choices"]
        seen = tuple(choice["message"].get("content") or "" for choice in choices)
        reason = choices[-1]["finish_reason"]
        return Whole(name.put(raw, data), [], usage, reason, seen[0], seen)
    return _said(whole_answer(expert_id, read, raw, asked))


def read_streamed(expert_id: str, read: Reader, raw: bytes, asked: int) -> Whole:
    """What `raw` says, a stream where none was asked for.

    Raises:
        ExpertCallError: It holds an error, or no finished choice.
    """
    reader = StreamReader(expert_id, read, asked, max_event_bytes=len(raw))
    return _said([*reader.feed(raw), *reader.end()])


def _said(events: list[Event]) -> Whole:
    reported = [event for event in events if isinstance(event, Usage)]
    ends = [event.reason for event in events if isinstance(event, Finish)]
    deltas = [event for event in events if isinstance(event, Delta)]
    text = "".join(delta.text for delta in deltas if not delta.choice)
    seen = tuple(piece for delta in deltas for piece in (delta.text, delta.reasoning))
    return Whole(None, events, reported[-1] if reported else None, ends[-1], text, seen)


def _parsed(raw: bytes) -> Json | None:
    try:
        data = load_json(raw)
    except orjson.JSONDecodeError:
        return None
    return data if isinstance(data, dict) else None


def is_standard(data: Json, asked: int = 1) -> bool:
    """Whether a client that asked for so many choices can be given it but for its model's name."""
    choices, usage = data.get("choices"), data.get("usage")
    return (
        data.get("object") == "chat.completion"
        and isinstance(data.get("id"), str)
        and type(data.get("created")) is int
        and "error" not in data
        and isinstance(usage, dict)
        and all(type(usage.get(name)) is int and usage[name] >= 0 for name in _COUNTS)
        and all(_are_counts(usage[name]) for name in _PARTS & usage.keys())
        and isinstance(choices, list)
        and 0 < len(choices) <= asked
        and all(map(_is_standard_choice, choices))
        and [choice.get("index") for choice in choices] == list(range(len(choices)))
    )


_COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")
_PARTS = frozenset({"prompt_tokens_details", "completion_tokens_details"})


def _are_counts(parts: Any) -> bool:
    return parts is None or (
        isinstance(parts, dict)
        and all(type(count) is int or count is None for count in parts.values())
    )


def _is_standard_choice(choice: Any) -> bool:
    end = choice.get("finish_reason") if isinstance(choice, dict) else None
    if not isinstance(end, str) or end in FAILED_ENDS:
        return False
    message = choice.get("message")
    if not isinstance(message, dict) or message.get("role") != "assistant":
        return False
    calls = message.get("tool_calls")
    return (
        bool(end)
        and type(choice.get("index")) is int
        and choice.get("logprobs") == logprobs_of(choice)
        and all(isinstance(message.get(name), str | None) for name in _WORDS)
        and fields_of(message).keys() | _MESSAGE >= message.keys()
        and (not calls or (isinstance(calls, list) and all(map(_is_call, calls))))
    )


_WORDS = ("content", "reasoning_content", "reasoning", "refusal")
_MESSAGE = frozenset({"role", "tool_calls", *_WORDS})


def _is_call(call: Any) -> bool:
    function = call.get("function") if isinstance(call, dict) else None
    return (
        isinstance(function, dict)
        and isinstance(call.get("id"), str)
        and call.get("type") == "function"
        and isinstance(function.get("name"), str)
        and bool(function["name"])
        and isinstance(function.get("arguments"), str)
    )
