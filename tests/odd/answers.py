"""What sound providers answer, in all the shapes that the gateway reads. Data."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from experts.fakes.anthropic import Message

TEXT = "Grüße 🙂 aus Köln"
THOUGHT = "Erst denken"
ARGUMENTS = '{"city":"Köln","n":[1]}'
NAME = "weather"
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Shape:
    """One sound answer.

    Attributes:
        name: What is in it.
        wire: `openai` or `anthropic`.
        api: Which endpoint gives it: `chat`, `completions` or `embeddings`.
        whole: It in one piece.
        stream: It in pieces; empty: it is not streamed.
    """

    name: str
    wire: str
    api: str
    whole: Json
    stream: tuple[Json, ...] = ()


_USAGE = {
    "prompt_tokens": 10,
    "completion_tokens": 7,
    "total_tokens": 17,
    "prompt_tokens_details": {"cached_tokens": 2},
    "completion_tokens_details": {"reasoning_tokens": 1},
}
_CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": NAME, "arguments": ARGUMENTS},
}
_LOGPROBS = {
    "content": [
        {"token": "Grüße", "logprob": -0.1, "bytes": [71], "top_logprobs": []},
    ],
    "refusal": None,
}


def _whole(message: Json, finish: str = "stop", **choice: Any) -> Json:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", **message},
                "finish_reason": finish,
                **choice,
            }
        ],
        "usage": _USAGE,
        "system_fingerprint": "fp",
    }


def _chunk(delta: Json, finish: str | None = None, **choice: Any) -> Json:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish, **choice}],
    }


def _chunks(*deltas: Json, finish: str = "stop", **choice: Any) -> tuple[Json, ...]:
    said = [_chunk(delta, **choice) for delta in deltas]
    last = {**_chunk({}), "choices": [], "usage": _USAGE}
    return (_chunk({"role": "assistant", "content": ""}), *said, _chunk({}, finish), last)


def _text(*pieces: str) -> tuple[Json, ...]:
    return tuple({"content": piece} for piece in pieces)


_PIECES = ("Grüße 🙂", " aus", " Köln")
_CALLED = (
    {"tool_calls": [{"index": 0, **_CALL, "function": {"name": NAME, "arguments": ""}}]},
    {"tool_calls": [{"index": 0, "function": {"arguments": ARGUMENTS[:9]}}]},
    {"tool_calls": [{"index": 0, "function": {"arguments": ARGUMENTS[9:]}}]},
)
_SIGNED = {"type": "thinking", "thinking": THOUGHT, "signature": "c2ln"}
_USE = {"type": "tool_use", "id": "toolu_1", "name": NAME, "input": json.loads(ARGUMENTS)}
_COUNTED = {
    "input_tokens": 8,
    "cache_read_input_tokens": 2,
    "cache_creation_input_tokens": 0,
    "output_tokens": 7,
}
_SAID = {"type": "text", "text": TEXT}


def _message(name: str, *blocks: Json, reason: str = "end_turn") -> Shape:
    message = Message(blocks, reason, usage=_COUNTED, piece=8)
    return Shape(name, "anthropic", "chat", message.body("m"), tuple(message.events("m")))


def _completion(text: str, finish: str | None) -> Json:
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish}
    head = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m"}
    return {**head, "choices": [choice]}


SHAPES = {
    shape.name: shape
    for shape in (
        Shape(
            "text",
            "openai",
            "chat",
            _whole({"content": TEXT, "refusal": None}),
            _chunks(*_text(*_PIECES)),
        ),
        Shape(
            "calls",
            "openai",
            "chat",
            _whole({"content": None, "tool_calls": [_CALL]}, "tool_calls"),
            _chunks(*_CALLED, finish="tool_calls"),
        ),
        Shape(
            "thought",
            "openai",
            "chat",
            _whole({"reasoning_content": THOUGHT, "content": TEXT}),
            _chunks({"reasoning_content": THOUGHT}, {"content": TEXT}),
        ),
        Shape(
            "logprobs",
            "openai",
            "chat",
            _whole({"content": TEXT}, logprobs=_LOGPROBS),
            _chunks({"content": TEXT}, logprobs=_LOGPROBS),
        ),
        Shape(
            "completion",
            "openai",
            "completions",
            {**_completion(TEXT, "stop"), "usage": _USAGE},
            (
                *(_completion(piece, None) for piece in _PIECES),
                _completion("", "stop"),
                {**_completion("", None), "choices": [], "usage": _USAGE},
            ),
        ),
        _message("message", _SAID),
        _message("thoughtful message", _SIGNED, _SAID),
        _message("calling message", _SAID, _USE, reason="tool_use"),
        Shape(
            "vectors",
            "openai",
            "embeddings",
            {
                "object": "list",
                "model": "m",
                "data": [
                    {"object": "embedding", "index": 0, "embedding": [0.25, -1.0]},
                    {"object": "embedding", "index": 1, "embedding": [0.5, 1.0]},
                ],
                "usage": {"prompt_tokens": 10, "total_tokens": 10},
            },
        ),
    )
}
