"""The four ways to ask and a fifth for vectors, as clients that take no field of another type."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from tests.faults.apis import events_of

Json = dict[str, Any]


@dataclass(slots=True)
class Heard:
    """What a client got.

    Attributes:
        text: All of it.
        calls: Names and arguments by the number of the call, pieces put together.
        ended: The answer was said to be over.
        tokens: All counts that came.
        error: The error that it ended in.
        vectors: Of embeddings.
    """

    text: str = ""
    calls: dict[int, list[str]] = field(default_factory=lambda: defaultdict(lambda: ["", ""]))
    ended: bool = False
    tokens: list[int] = field(default_factory=list)
    error: Json | None = None
    vectors: list[list[float]] = field(default_factory=list)

    def count(self, usage: Json | None, *names: str) -> None:
        """Take the counts of these names, all of which must be there."""
        if usage is not None:
            self.tokens += [_number(usage[name]) for name in names]
            for name, part in usage.items():
                if name.endswith("_details") and part is not None:
                    self.tokens += [_number(part[n]) for n in _PARTS if part.get(n) is not None]

    def call(self, index: int, name: str, arguments: str) -> None:
        self.calls[_number(index)][0] += name
        self.calls[index][1] += arguments


def heard(front: str, status: int, content: bytes, *, stream: bool) -> Heard:
    """Read an answer.

    Raises:
        AssertionError, KeyError, TypeError, ValueError: It is none, or not one of this front.
    """
    if status != 200:
        return Heard(error=_error(front, json.loads(content)))
    if not stream:
        return _WHOLE[front](json.loads(content))
    return _STREAMED[front](events_of(content))


def _error(front: str, body: Json) -> Json:
    error: Json = body["error"]
    if front == "messages":
        assert body["type"] == "error"
    else:
        assert set(error) == {"message", "type", "param", "code"}
    assert _text(error["message"])
    _text(error["type"])
    assert error["code"] is None or _text(error["code"])
    return error


def _number(value: Any) -> int:
    assert type(value) is int, value
    assert value >= 0, value
    return value


def _text(value: Any) -> str:
    assert isinstance(value, str), value
    value.encode()
    return value


def _optional(value: Any) -> str:
    return "" if value is None else _text(value)


_PARTS = ("cached_tokens", "reasoning_tokens", "thinking_tokens")
_COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")


def _chat_piece(found: Heard, said: Json, *, whole: bool) -> None:
    found.text += _optional(said.get("content"))
    _optional(said.get("reasoning_content"))
    if whole or "role" in said:
        assert said.get("role") in ("assistant", None), said
    for place, call in enumerate(said.get("tool_calls") or ()):
        body = call["function"]
        if whole:
            _text(call["id"])
            found.call(place, _text(body["name"]), _text(body["arguments"]))
        else:
            _optional(call.get("id"))
            found.call(call["index"], _optional(body.get("name")), _optional(body.get("arguments")))


def _choices(found: Heard, body: Json, *, whole: bool) -> None:
    _text(body["id"])
    _text(body["object"])
    _text(body["model"])
    assert type(body["created"]) is int
    for choice in body["choices"]:
        if _number(choice["index"]):
            # One choice was asked for, so clients look no further.
            continue
        assert not found.ended, "text after the end"
        if "text" in choice:
            found.text += _text(choice["text"])
        else:
            _chat_piece(found, choice["message" if whole else "delta"], whole=whole)
        assert choice.get("logprobs") is None or isinstance(choice["logprobs"], dict)
        if choice.get("finish_reason") is not None:
            assert _text(choice["finish_reason"])
            found.ended = True
    found.count(body.get("usage"), *_COUNTS)


def _openai_whole(body: Json) -> Heard:
    found = Heard()
    _choices(found, body, whole=True)
    return found


def _openai_streamed(events: list[tuple[str | None, str]]) -> Heard:
    found = Heard()
    *data, last = [data for _, data in events]
    for chunk in map(json.loads, data):
        assert "error" not in chunk, "an error must be the last event"
        _choices(found, chunk, whole=False)
    if last != "[DONE]":
        found.error = _error("chat", json.loads(last))
    return found


def _responses_whole(body: Json) -> Heard:
    found = Heard()
    if body["status"] == "failed":
        found.error = body["error"]
        return found
    for item in body["output"]:
        _text(item["id"])
        if item["type"] == "message":
            for part in item["content"]:
                found.text += _text(part["text"] if "text" in part else part["refusal"])
        elif item["type"] == "function_call":
            _text(item["call_id"])
            found.call(len(found.calls), _text(item["name"]), _text(item["arguments"]))
        else:
            assert item["type"] == "reasoning", item
            parts = (*item["summary"], *(item.get("content") or ()))
            assert all(isinstance(part["text"], str) for part in parts)
    assert body["status"] in ("completed", "incomplete")
    found.ended = True
    found.count(body["usage"], "input_tokens", "output_tokens", "total_tokens")
    return found


def _responses_streamed(events: list[tuple[str | None, str]]) -> Heard:
    said = [json.loads(data) for _, data in events]
    assert [name for name, _ in events] == [event["type"] for event in said]
    assert [event["sequence_number"] for event in said] == list(range(len(said)))
    deltas = [event for event in said if event["type"].endswith((".delta",))]
    assert all(isinstance(event["delta"], str) for event in deltas)
    texts = [e["delta"] for e in deltas if e["type"] == "response.output_text.delta"]
    if said[-1]["type"] == "error":
        return Heard("".join(texts), error=said[-1]["error"])
    assert said[-1]["type"] in ("response.completed", "response.incomplete")
    found = _responses_whole(said[-1]["response"])
    refused = [e["delta"] for e in deltas if e["type"] == "response.refusal.delta"]
    assert found.text == "".join((*texts, *refused))
    return found


def _messages_whole(body: Json) -> Heard:
    found = Heard(ended=bool(_text(body["stop_reason"])))
    assert (body["type"], body["role"]) == ("message", "assistant")
    _text(body["id"])
    _text(body["model"])
    for place, block in enumerate(body["content"]):
        _block(found, place, block)
        if block["type"] == "tool_use":
            found.calls[place][1] = json.dumps(block["input"])
    found.count(body["usage"], "input_tokens", "output_tokens")
    return found


def _block(found: Heard, place: int, block: Json) -> None:
    match _text(block["type"]):
        case "text":
            found.text += _text(block["text"])
        case "thinking":
            _text(block["thinking"])
            _text(block["signature"])
        case "tool_use":
            _text(block["id"])
            assert isinstance(block["input"], dict)
            found.call(place, _text(block["name"]), "")


def _messages_streamed(events: list[tuple[str | None, str]]) -> Heard:
    found, open_at = Heard(), set[int]()
    said = [json.loads(data) for _, data in events]
    assert [name for name, _ in events] == [event["type"] for event in said]
    names = [event["type"] for event in said]
    assert names[0] == "message_start"
    assert names.count("message_start") == 1
    assert names.count("message_stop") + names.count("error") == 1
    known = -1
    for event in said:
        match event["type"]:
            case "content_block_start":
                known += 1
                assert event["index"] == known
                open_at.add(known)
                _block(found, known, event["content_block"])
            case "content_block_delta":
                assert event["index"] in open_at
                _delta(found, event["index"], event["delta"])
            case "content_block_stop":
                open_at.remove(event["index"])
            case "message_delta":
                found.ended = bool(_text(event["delta"]["stop_reason"]))
                found.count(event["usage"], "output_tokens")
    if names[-1] == "error":
        found.error = _error("messages", said[-1])
    else:
        assert (names[-1], open_at) == ("message_stop", set())
    return found


def _delta(found: Heard, place: int, delta: Json) -> None:
    match _text(delta["type"]):
        case "text_delta":
            found.text += _text(delta["text"])
        case "thinking_delta":
            _text(delta["thinking"])
        case "signature_delta":
            _text(delta["signature"])
        case "input_json_delta":
            found.call(place, "", _text(delta["partial_json"]))


def _embeddings_whole(body: Json) -> Heard:
    found = Heard(ended=True)
    assert [item["index"] for item in body["data"]] == list(range(len(body["data"])))
    found.vectors = [item["embedding"] for item in body["data"]]
    assert all(isinstance(n, int | float) for vector in found.vectors for n in vector)
    found.count(body["usage"], "prompt_tokens", "total_tokens")
    return found


_WHOLE = {
    "chat": _openai_whole,
    "completions": _openai_whole,
    "responses": _responses_whole,
    "messages": _messages_whole,
    "embeddings": _embeddings_whole,
}
_STREAMED = {
    "chat": _openai_streamed,
    "completions": _openai_streamed,
    "responses": _responses_streamed,
    "messages": _messages_streamed,
}
