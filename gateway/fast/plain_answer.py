"""Answers that come whole and are all that a client counts on. Pure."""

from __future__ import annotations

from typing import Any

import orjson

from experts.messages import Json
from experts.record import record
from experts.wire.depth import check_depth
from experts.wire.openai_reading import usage_events
from experts.wire.refusals import FAILED_ENDS
from experts.wire.token_counts import MOST_TOKENS
from gateway.fast.whole import is_standard
from gateway.ledger.briefs import Tokens

_NOTHING_OR_TEXT = frozenset({str, type(None)})
_USAGE = frozenset({"prompt_tokens", "completion_tokens", "total_tokens"})


@record(eq=False)
class PlainAnswer:
    """What the books want to know of an answer.

    Attributes:
        data: All of it.
        tokens: As it reports them.
        finish_reason: Of the last choice.
        text: Of the first.
    """

    data: Json
    tokens: Tokens
    finish_reason: str
    text: str


def read_answer(body: bytes) -> PlainAnswer | None:
    """What `body` says; None if it can't go to a client as it is."""
    try:
        data = orjson.loads(body)
        if (usual := _usual(data)) is not None:
            return usual
        check_depth(body, data)
    except orjson.JSONDecodeError:
        return None
    return _standard(data)


def _usual(data: Any) -> PlainAnswer | None:
    """The shape that most answers have: one choice, a text, three counts that add up."""
    try:
        (choice,) = data["choices"]
        message, usage = choice["message"], data["usage"]
        read, written = usage["prompt_tokens"], usage["completion_tokens"]
        text, reason = message["content"], choice["finish_reason"]
        if (
            type(text) is str
            and type(reason) is str
            and reason not in FAILED_ENDS
            and type(read) is type(written) is int
            and usage["total_tokens"] == read + written <= MOST_TOKENS
            and read >= 0 <= written
            and usage.keys() <= _USAGE
            and message["role"] == "assistant"
            and not message.get("tool_calls")
            and data["object"] == "chat.completion"
            and type(data["id"]) is str
            and type(data["created"]) is int
            and type(choice["index"]) is int
            and choice["index"] == 0
            and reason
            and choice.get("logprobs") is None
            and "error" not in data
            and type(message.get("refusal")) in _NOTHING_OR_TEXT
            and type(message.get("reasoning_content")) in _NOTHING_OR_TEXT
        ):
            return PlainAnswer(data, (read, 0, 0, written, 0), reason, text)
    except (KeyError, TypeError, ValueError, AttributeError):
        # Of another shape; it may be a standard answer all the same.
        return None
    return None


def _standard(data: Any) -> PlainAnswer | None:
    if not isinstance(data, dict) or not is_standard(data):
        return None
    usage = next(usage_events(data), None)
    if usage is None:
        return None
    choices = data["choices"]
    counts = usage.input, usage.cache_read, usage.cache_write, usage.output, usage.reasoning
    text = choices[0]["message"].get("content") or ""
    return PlainAnswer(data, counts, choices[-1]["finish_reason"], text)
