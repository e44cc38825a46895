"""A provider of Anthropic's messages API on the loopback address that answers as scripted.

It streams the events that the real one would, in the pieces that the script wants, and keeps every
body and header it was sent.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson


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


class FakeAnthropic(ThreadingHTTPServer):
    """One server; `script` is used up message by message, then `otherwise` for ever.

    Attributes:
        counts: What `count_tokens` answers, one by one; none left is a 404.
        paths, bodies, headers: Of every request so far.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script: deque[Message] = deque()
        self.otherwise = Message()
        self.counts: deque[int] = deque()
        self.paths: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        """Its base URL, `/v1` included."""
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


@contextmanager
def fake_anthropic() -> Iterator[FakeAnthropic]:
    """A provider that serves from a thread while the context is open."""
    with FakeAnthropic() as server:
        thread = threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.02}, name="fake-anthropic"
        )
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeAnthropic

    def do_POST(self) -> None:
        body = orjson.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.paths.append(self.path)
        self.server.bodies.append(body)
        self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
        if self.path.endswith("/count_tokens"):
            self._count()
            return
        script = self.server.script
        message = script.popleft() if script else self.server.otherwise
        if message.status >= 400:
            self._send(message.status, _error(message), message.headers)
        elif body.get("stream"):
            self._stream(message, str(body["model"]))
        else:
            self._send(200, message.body(str(body["model"])), message.headers)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's word
        """Keep quiet."""

    def _count(self) -> None:
        if self.server.counts:
            self._send(200, {"input_tokens": self.server.counts.popleft()}, {})
        else:
            error = {"type": "not_found_error", "message": "counts nothing"}
            self._send(404, {"type": "error", "error": error}, {})

    def _send(self, status: int, content: Any, headers: dict[str, str]) -> None:
        data = orjson.dumps(content)
        self._head(status, {"content-type": "application/json", **headers})
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)

    def _stream(self, message: Message, model: str) -> None:
        self._head(200, {"content-type": "text/event-stream", **message.headers})
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for index, event in enumerate(message.events(model)):
            if index == message.cut_after:
                self.close_connection = True
                return
            if index == message.error_after:
                self._chunk(_error(message))
                break
            self._chunk(event)
        self.wfile.write(b"0\r\n\r\n")

    def _chunk(self, event: dict[str, Any]) -> None:
        name, content = str(event["type"]).encode(), orjson.dumps(event)
        data = b"event: %s\ndata: %s\n\n" % (name, content)
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))


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
