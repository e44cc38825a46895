"""Reads Anthropic's answers, whole or event by event. Pure."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import orjson

from experts.messages import Delta, Event, Finish, Json, Usage
from experts.wire.shapes import index_of, word_of
from experts.wire.token_counts import token_count

FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "pause_turn": "stop",
    "refusal": "content_filter",
}
"""Anthropic's stop reasons in OpenAI's words."""


class MessageReader:
    """One answer: called with the whole message, or with event after event.

    Texts, thoughts and tool calls become what every client understands. Blocks of other kinds, and
    citations, go on as `Delta.opaque`.

    Args:
        json_tool: Calls of this tool are the answer itself, to be read as its text.
    """

    def __init__(self, json_tool: str) -> None:
        self._json_tool = json_tool
        self._blocks: dict[int, _Block] = {}
        self._before: _Block | None = None
        self._said = False
        self._calls = 0
        self._thoughts = 0
        self._usage: dict[str, Any] = {}
        self._about: dict[str, Any] = {}

    def __call__(self, data: Json) -> Iterator[Event]:
        for event in self._read(data):
            self._said = True
            yield event

    def _read(self, data: Json) -> Iterator[Event]:
        match _kind(data):
            case "message":
                yield from self._whole(data)
            case "message_start":
                message = data.get("message") or {}
                self._usage |= message.get("usage") or {}
                self._about |= _others(message)
            case "content_block_start":
                yield from self._start(index_of(data), data.get("content_block") or {})
            case "content_block_delta":
                yield from self._piece(index_of(data), data.get("delta") or {})
            case "content_block_stop":
                yield from self._stop(index_of(data))
            case "ping" if self._said:
                # A sign of life, so that long hidden thought within an answer is not taken for
                # silence. Before the answer it is none: another expert could still take over.
                yield Delta()
            case "message_delta":
                self._about |= _others(data)
                yield from self._end(data.get("delta") or {}, data.get("usage") or {})

    def _whole(self, message: Json) -> Iterator[Event]:
        for index, content in enumerate(message.get("content") or ()):
            yield from self._start(index, content)
            yield from self._stop(index)
        end = {name: message[name] for name in _ENDING if message.get(name) is not None}
        self._about |= _others(message)
        yield from self._end(end, message.get("usage") or {})

    def _start(self, index: int, content: Json) -> Iterator[Event]:
        block = self._blocks[index] = _Block(content)
        before, self._before = self._before, block
        match block.kind:
            case "text":
                if before and before.kind == "text":
                    # Two texts in a row: a client of the same wire sees where one ends.
                    yield Delta(opaque=(_start_event({"type": "text", "text": ""}),))
                yield from self._piece(index, {"type": "text_delta", "text": content.get("text")})
                for citation in content.get("citations") or ():
                    yield from self._piece(index, {"type": "citations_delta", "citation": citation})
            case "thinking":
                thought = content.get("thinking")
                yield from self._piece(index, {"type": "thinking_delta", "thinking": thought})
                block.signature = word_of(content, "signature") or ""
            case "redacted_thinking":
                yield self._signed(dict(content))
            case "tool_use" if content.get("name") != self._json_tool:
                block.call = self._calls
                self._calls += 1
                function = {"name": word_of(content, "name") or "", "arguments": ""}
                others = {n: value for n, value in content.items() if n not in _CALL}
                call_id = word_of(content, "id") or f"toolu_{uuid.uuid4().hex}"
                call = {"id": call_id, "type": "function", "function": function}
                yield Delta(tool_calls=({**others, "index": block.call, **call},))
            case "tool_use":
                pass
            case _:
                yield Delta(opaque=(_start_event(content),))

    def _piece(self, index: int, delta: Json) -> Iterator[Event]:
        block = self._blocks.get(index) or _Block({"type": "text"})
        match _kind(delta):
            case "text_delta" if block.kind in _UNDERSTOOD:
                if text := word_of(delta, "text"):
                    yield Delta(text)
            case "thinking_delta":
                if thought := word_of(delta, "thinking"):
                    block.thought.append(thought)
                    yield Delta(reasoning=thought)
            case "signature_delta":
                block.signature += word_of(delta, "signature") or ""
            case "input_json_delta" if block.kind == "tool_use":
                if piece := word_of(delta, "partial_json"):
                    block.has_input = True
                    yield self._arguments(block, piece)
            case str():
                yield Delta(opaque=({"type": "content_block_delta", "delta": delta},))

    def _stop(self, index: int) -> Iterator[Event]:
        block = self._blocks.get(index)
        if block is None:
            return
        if block.kind == "tool_use" and not block.has_input:
            # Without a piece of it, the input is what the block began with; often {}.
            yield self._arguments(block, orjson.dumps(block.content.get("input") or {}).decode())
        elif block.kind == "thinking" and block.signature:
            signed = {"thinking": "".join(block.thought), "signature": block.signature}
            yield self._signed({"type": "thinking", **signed})
        elif block.kind not in _UNDERSTOOD:
            yield Delta(opaque=({"type": "content_block_stop"},))

    def _arguments(self, block: _Block, text: str) -> Delta:
        if block.call is None:
            return Delta(text)
        return Delta(tool_calls=({"index": block.call, "function": {"arguments": text}},))

    def _signed(self, block: dict[str, Any]) -> Delta:
        """A whole thought with its signature, for clients to send back. The index is OpenAI's."""
        self._thoughts += 1
        return Delta(fields={"thinking_blocks": [{**block, "index": self._thoughts - 1}]})

    def _end(self, delta: Json, usage: Json) -> Iterator[Event]:
        self._usage |= {name: value for name, value in usage.items() if value is not None}
        if word_of(delta, "stop_reason"):
            yield self._finish({n: v for n, v in delta.items() if v is not None})
        counted = usage_of(self._usage)
        # What a message begins with counts a first token alone.
        if counted is not None and usage.get("output_tokens") is not None:
            yield counted

    def _finish(self, end: dict[str, Any]) -> Finish:
        if end["stop_reason"] == "tool_use" and self._calls == 0:
            # The only call was the JSON answer.
            end["stop_reason"] = "end_turn"
        if word_of(end, "stop_sequence") is None:
            end.pop("stop_sequence", None)
        reason = FINISH.get(end["stop_reason"], "stop")
        opaque = {**end, "usage": dict(self._usage), "about": dict(self._about)}
        return Finish(reason, stop=end.get("stop_sequence"), opaque=opaque)


_UNDERSTOOD = ("text", "thinking", "redacted_thinking", "tool_use")


_CALL = ("type", "id", "name", "input", "cache_control")
_ENDING = ("stop_reason", "stop_sequence", "stop_details", "container")
_MESSAGE = ("id", "type", "role", "model", "content", "usage", "delta", *_ENDING)


def _others(message: Json) -> dict[str, Any]:
    """What is said of the whole message beside what every one has."""
    return {n: value for n, value in message.items() if n not in _MESSAGE and value is not None}


class _Block:
    """A content block while it is read."""

    def __init__(self, content: Json) -> None:
        self.content = content
        self.kind = _kind(content)
        self.call: int | None = None
        self.has_input = False
        self.thought: list[str] = []
        self.signature = ""


def usage_of(usage: Json) -> Usage | None:
    """Anthropic's counts, which are disjoint but for thoughts among the output.

    None if they can't be counts, or all are 0: a sound answer is neither lost for that nor free.
    """
    try:
        output = token_count(usage, "output_tokens")
        thought = token_count(usage.get("output_tokens_details") or {}, "thinking_tokens")
        read, cached, written = (token_count(usage, name) for name in _READ)
    except (TypeError, ValueError, AttributeError):
        return None
    if not (read or cached or written or output):
        return None
    thought = min(thought, output)
    return Usage(read, cached, written, output - thought, thought)


_READ = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


def _kind(said: Json) -> str:
    kind = said.get("type")
    if not isinstance(kind, str):
        raise TypeError("a type must be a word")
    return kind


def _start_event(content: Json) -> Json:
    return {"type": "content_block_start", "content_block": content}
