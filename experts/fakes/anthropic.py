"""A provider of Anthropic's messages API on the loopback address that answers as scripted.

It streams the events that the real one would, in the pieces that the script wants, and keeps every
body and header it was sent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import orjson

from experts.fakes.server import (
    LAST_CHUNK,
    Act,
    FakeServer,
    ReceivedRequest,
    Then,
    chunk,
    event,
    head,
    serving,
    whole,
)


@dataclass(frozen=True, slots=True)
class Message:
    """What to do with one request.

    Attributes:
        content: The blocks of the answer, whole; a stream cuts texts and inputs into pieces.
        stop_reason: Why it ends; None never says so.
        stop_sequence: Which stop sequence did.
        usage: Token counts.
        piece: Characters of text or JSON in one event.
        status: An error status sends `error` instead.
        error: The error's type and message.
        headers: Extra response headers.
        cut_after: Close the connection after so many events.
        error_after: Send `error` as an event after so many events, and nothing more.
    """

    content: tuple[dict[str, Any], ...] = ({"type": "text", "text": "Hello there"},)
    stop_reason: str | None = "end_turn"
    stop_sequence: str | None = None
    usage: dict[str, Any] = field(default_factory=lambda: {"input_tokens": 10, "output_tokens": 2})
    piece: int = 5
    status: int = 200
    error: dict[str, Any] = field(
        default_factory=lambda: {"type": "api_error", "message": "scripted"}
    )
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    error_after: int | None = None

    def body(self, model: str) -> dict[str, Any]:
        """The whole message."""
        return {
            "id": "msg_upstream",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": list(self.content),
            "stop_reason": self.stop_reason,
            "stop_sequence": self.stop_sequence,
            "usage": self.usage,
        }

    def events(self, model: str) -> Iterator[dict[str, Any]]:
        """The same as a stream."""
        told = {name: count for name, count in self.usage.items() if name != "output_tokens"}
        start = {**self.body(model), "content": [], "stop_reason": None, "stop_sequence": None}
        yield {"type": "message_start", "message": {**start, "usage": {**told, "output_tokens": 1}}}
        yield {"type": "ping"}
        for index, block in enumerate(self.content):
            bare, deltas = _streamed(block, self.piece)
            yield {"type": "content_block_start", "index": index, "content_block": bare}
            for delta in deltas:
                yield {"type": "content_block_delta", "index": index, "delta": delta}
            yield {"type": "ping"}
            yield {"type": "content_block_stop", "index": index}
        if self.stop_reason:
            end = {"stop_reason": self.stop_reason, "stop_sequence": self.stop_sequence}
            written = {n: c for n, c in self.usage.items() if n.startswith("output_tokens")}
            yield {"type": "message_delta", "delta": end, "usage": written}
        yield {"type": "message_stop"}


class FakeAnthropic(FakeServer):
    """One server; `script` is used up message by message, then `otherwise` for ever.

    Attributes:
        counts: What `count_tokens` answers, one by one; none left is a 404.
    """

    def __init__(self) -> None:
        super().__init__()
        self.script: deque[Message] = deque()
        self.otherwise = Message()
        self.counts: deque[int] = deque()

    def acts(self, asked: ReceivedRequest) -> Iterator[Act]:
        if asked.path.endswith("/count_tokens"):
            yield self._counted()
            return
        message = self.script.popleft() if self.script else self.otherwise
        model = str(asked.body["model"])
        if message.status >= 400:
            yield whole(message.status, _error(message), message.headers)
        elif asked.body.get("stream"):
            yield from _sent(message, model)
        else:
            yield whole(200, message.body(model), message.headers)

    def _counted(self) -> bytes:
        if self.counts:
            return whole(200, {"input_tokens": self.counts.popleft()}, {})
        error = {"type": "not_found_error", "message": "counts nothing"}
        return whole(404, {"type": "error", "error": error}, {})


def fake_anthropic() -> AbstractContextManager[FakeAnthropic]:
    """A provider that serves from a thread while the context is open."""
    return serving(FakeAnthropic())


def _sent(message: Message, model: str) -> Iterator[Act]:
    yield head(200, {"content-type": "text/event-stream", **message.headers}, None)
    for index, said in enumerate(message.events(model)):
        if index == message.cut_after:
            yield Then.CLOSE
        if index == message.error_after:
            yield chunk(event(_error(message), "error"))
            break
        yield chunk(event(said, said["type"]))
    yield LAST_CHUNK


def _error(message: Message) -> dict[str, Any]:
    return {"type": "error", "error": message.error, "request_id": "req_upstream"}


def _streamed(block: dict[str, Any], size: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A block as it begins in a stream, and the deltas that follow."""
    match block["type"]:
        case "text":
            bare = {"type": "text", "text": ""}
            deltas = [{"type": "text_delta", "text": piece} for piece in _cut(block["text"], size)]
            cited = [
                {"type": "citations_delta", "citation": citation}
                for citation in block.get("citations") or ()
            ]
            return ({**bare, "citations": []} if cited else bare), [*deltas, *cited]
        case "thinking":
            bare = {"type": "thinking", "thinking": "", "signature": ""}
            pieces = _cut(block["thinking"], size)
            deltas = [{"type": "thinking_delta", "thinking": piece} for piece in pieces]
            return bare, [
                *deltas,
                {"type": "signature_delta", "signature": block["signature"]},
            ]
        case "tool_use" | "server_tool_use":
            # The real one begins each input with an empty piece.
            pieces = ["", *_cut(orjson.dumps(block["input"]).decode(), size)]
            return {**block, "input": {}}, [
                {"type": "input_json_delta", "partial_json": piece} for piece in pieces
            ]
    return block, []


def _cut(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]
