"""Pieces of an answer to Anthropic's content blocks, in order and with their indices. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from experts.messages import Delta, Json
from experts.pieces import is_whole_json

_TEXT: Json = {"type": "text", "text": ""}
_OF_CALL = ("index", "id", "type", "function", "custom")
_THOUGHT: Json = {"type": "thinking", "thinking": "", "signature": ""}


class BlockEvents:
    """Events of one message's blocks.

    A block ends before the next begins, as clients of the real thing are used to. Only pieces of
    several tool calls that come mixed keep several blocks open: each is ended when its input is
    whole JSON, or with the message.

    Attributes:
        has_calls: Whether there was a call of a client's tool.
        has_refusal: Whether the expert refused in so many words.
    """

    def __init__(self) -> None:
        self.has_calls = False
        self.has_refusal = False
        self._blocks = 0
        self._open: tuple[int, str] | None = None
        self._calls: dict[int, _Call] = {}

    def add(self, delta: Delta) -> Iterator[Json]:
        """The events that say `delta`."""
        for event in delta.opaque:
            yield from self._as_it_came(event)
        if delta.reasoning:
            yield from self._within(_THOUGHT)
            yield self._piece({"type": "thinking_delta", "thinking": delta.reasoning})
        for thought in delta.fields.get("thinking_blocks") or ():
            yield from self._signed(thought)
        if delta.text:
            yield from self._within(_TEXT)
            yield self._piece({"type": "text_delta", "text": delta.text})
        refusal = delta.fields.get("refusal")
        if isinstance(refusal, str) and refusal:
            self.has_refusal = True
            yield from self._within(_TEXT)
            yield self._piece({"type": "text_delta", "text": refusal})
        for piece in delta.tool_calls:
            yield from self._called(piece)

    def close(self) -> Iterator[Json]:
        """The ends of all blocks that are open."""
        yield from self._stop()
        for call in self._calls.values():
            yield from call.stop()

    def _start(self, content: Json) -> Iterator[Json]:
        yield from self._stop()
        for call in self._calls.values():
            if call.is_whole():
                yield from call.stop()
        self._open = (self._blocks, str(content.get("type")))
        yield {"type": "content_block_start", "index": self._blocks, "content_block": content}
        self._blocks += 1

    def _stop(self) -> Iterator[Json]:
        if self._open is not None:
            yield _stop(self._open[0])
            self._open = None

    def _within(self, content: Json) -> Iterator[Json]:
        """The start of such a block unless one is open."""
        if self._open is None or self._open[1] != content["type"]:
            yield from self._start(content)

    def _piece(self, delta: Json) -> Json:
        assert self._open is not None  # noqa: S101 - callers have opened one
        return {"type": "content_block_delta", "index": self._open[0], "delta": delta}

    def _as_it_came(self, event: Json) -> Iterator[Json]:
        if event["type"] == "content_block_start":
            yield from self._start(event["content_block"])
        elif event["type"] == "content_block_stop":
            yield from self._stop()
        else:
            if self._open is None:
                yield from self._start(_TEXT)
            yield self._piece(event["delta"])

    def _signed(self, thought: Json) -> Iterator[Json]:
        """A thought's signature; its text too unless that was just streamed."""
        if thought.get("type") != "thinking":
            yield from self._start({n: v for n, v in thought.items() if n != "index"})
            yield from self._stop()
            return
        if self._open is None or self._open[1] != "thinking":
            yield from self._start(_THOUGHT)
            if thought.get("thinking"):
                yield self._piece({"type": "thinking_delta", "thinking": thought["thinking"]})
        yield self._piece({"type": "signature_delta", "signature": thought.get("signature", "")})
        yield from self._stop()

    def _called(self, piece: Json) -> Iterator[Json]:
        index = int(piece.get("index") or 0)
        function = piece.get("function") or {}
        call = self._calls.get(index)
        if call is None:
            self.has_calls = True
            named = {"id": piece.get("id"), "name": function.get("name") or ""}
            others = {n: value for n, value in piece.items() if n not in _OF_CALL}
            yield from self._start({**others, "type": "tool_use", **named, "input": {}})
            call = self._calls[index] = _Call(self._blocks - 1)
            # It may stay open beside others, so it is not the one that they end.
            self._open = None
        if function.get("arguments"):
            yield from call.write(str(function["arguments"]))


class _Call:
    def __init__(self, index: int) -> None:
        self._index = index
        self._written: list[str] = []
        self._ended = False

    def write(self, text: str) -> Iterator[Json]:
        if self._ended:
            # Only space can follow whole JSON.
            return
        self._written.append(text)
        delta = {"type": "input_json_delta", "partial_json": text}
        yield {"type": "content_block_delta", "index": self._index, "delta": delta}

    def is_whole(self) -> bool:
        return is_whole_json(self._written)

    def stop(self) -> Iterator[Json]:
        if not self._ended:
            self._ended = True
            yield _stop(self._index)


def _stop(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}
