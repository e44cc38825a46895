"""A provider on the loopback address that does what its script says, down to the bytes.

For tests and trials of what real providers do at their worst: it answers, streams, stalls, refuses
and breaks off on request, keeps every body it was sent, and notices when a client leaves.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson


@dataclass(frozen=True, slots=True)
class Reply:
    """What to do with one request.

    Attributes:
        text: The answer; streamed word by word when the request asks for a stream.
        status: An error status sends `error` instead.
        error: OpenAI's error object.
        headers: Extra response headers.
        usage: Token counts to report; None reports none.
        finish: Its finish reason; None never sends one.
        cut_after: Close the connection after so many chunks; half-way if not streamed.
        stall_after: Send nothing more after so many chunks, until the client leaves; an answer
            that is not streamed sends nothing at all.
        tool_calls: Tool calls to answer with.
        whole: The body of an answer that is not streamed, instead of one made from the above.
        chunks: The events of one that is.
    """

    text: str = "Hello there"
    status: int = 200
    error: dict[str, Any] = field(default_factory=lambda: {"message": "scripted"})
    headers: dict[str, str] = field(default_factory=dict)
    usage: dict[str, Any] | None = field(
        default_factory=lambda: {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
    )
    finish: str | None = "stop"
    cut_after: int | None = None
    stall_after: int | None = None
    tool_calls: tuple[dict[str, Any], ...] = ()
    whole: dict[str, Any] | None = None
    chunks: tuple[Any, ...] = ()


class FakeProvider:
    """One server; `script` is used up reply by reply, then `otherwise` for ever."""

    def __init__(self) -> None:
        self.script: deque[Reply] = deque()
        self.otherwise = Reply()
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.stalled = threading.Event()
        self.left = threading.Event()
        self.connections = 0
        self.port = 0

    @property
    def url(self) -> str:
        """Its base URL, `/v1` included."""
        return f"http://127.0.0.1:{self.port}/v1"

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.connections += 1
        try:
            while request := await _read_request(reader):
                headers, body = request
                self.headers.append(headers)
                self.bodies.append(body)
                reply = self.script.popleft() if self.script else self.otherwise
                if not await self._reply(reply, body, reader, writer):
                    break
            writer.close()
            await writer.wait_closed()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            writer.transport.abort()

    async def _reply(
        self,
        reply: Reply,
        body: dict[str, Any],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        """Send it; False when the connection must close."""
        if reply.status >= 400:
            _send_whole(writer, reply.status, {"error": reply.error}, reply.headers)
            await writer.drain()
            return True
        if body.get("stream"):
            return await self._stream(reply, list(_chunks(reply, body)), reader, writer)
        if reply.stall_after is not None:
            return await self._stall(reader)
        data = orjson.dumps(_whole(reply, body))
        writer.write(_head(200, {"content-type": "application/json", **reply.headers}, len(data)))
        writer.write(data if reply.cut_after is None else data[: len(data) // 2])
        await writer.drain()
        return reply.cut_after is None

    async def _stall(self, reader: asyncio.StreamReader) -> bool:
        self.stalled.set()
        await reader.read()
        self.left.set()
        return False

    async def _stream(
        self,
        reply: Reply,
        pieces: list[Any],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        writer.write(_head(200, {"content-type": "text/event-stream", **reply.headers}, None))
        for index, piece in enumerate(pieces):
            if index == reply.cut_after:
                return False
            if index == reply.stall_after:
                return await self._stall(reader)
            text = piece if isinstance(piece, str) else orjson.dumps(piece).decode()
            data = f"data: {text}\n\n".encode()
            writer.write(b"%x\r\n%s\r\n" % (len(data), data))
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True


@contextmanager
def fake_provider() -> Iterator[FakeProvider]:
    """A provider that serves from a thread while the context is open."""
    provider = FakeProvider()
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(provider.handle, "127.0.0.1", 0))
    provider.port = server.sockets[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever, name="fake-provider")
    thread.start()
    try:
        yield provider
    finally:
        asyncio.run_coroutine_threadsafe(_stop(server), loop).result(timeout=10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _stop(server: asyncio.Server) -> None:
    server.close()
    running = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in running:
        task.cancel()
    if running:
        await asyncio.wait(running, timeout=5)
    # Aborted transports close their sockets in the loop's next round.
    await asyncio.sleep(0)


async def _read_request(
    reader: asyncio.StreamReader,
) -> tuple[dict[str, str], dict[str, Any]] | None:
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")[1:]
    pairs = (line.partition(":") for line in lines if line)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    content = await reader.readexactly(int(headers.get("content-length", "0")))
    return headers, (orjson.loads(content) if content else {})


def _send_whole(
    writer: asyncio.StreamWriter, status: int, content: Any, headers: dict[str, str]
) -> None:
    data = orjson.dumps(content)
    writer.write(_head(status, {"content-type": "application/json", **headers}, len(data)) + data)


def _head(status: int, headers: dict[str, str], length: int | None) -> bytes:
    framing = {"transfer-encoding": "chunked"} if length is None else {"content-length": length}
    lines = [f"HTTP/1.1 {status} scripted"]
    lines += [f"{name}: {value}" for name, value in {**headers, **framing}.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _whole(reply: Reply, body: dict[str, Any]) -> dict[str, Any]:
    if reply.whole is not None:
        return reply.whole
    if "prompt" in body:
        choice: dict[str, Any] = {"index": 0, "text": reply.text}
    else:
        message: dict[str, Any] = {"role": "assistant", "content": reply.text}
        if reply.tool_calls:
            message = {"role": "assistant", "content": None, "tool_calls": list(reply.tool_calls)}
        choice = {"index": 0, "message": message}
    answer = {"model": body.get("model"), "choices": [{**choice, "finish_reason": reply.finish}]}
    return {**answer, "usage": reply.usage} if reply.usage else answer


def _chunks(reply: Reply, body: dict[str, Any]) -> Iterator[Any]:
    if reply.chunks:
        yield from reply.chunks
        return
    for word in reply.text.split(" "):
        piece = word if word == reply.text.split(" ")[0] else f" {word}"
        yield {"choices": [{"index": 0, **_piece(piece, body), "finish_reason": None}]}
    for index, call in enumerate(reply.tool_calls):
        delta = {"tool_calls": [{"index": index, **call}]}
        yield {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    if reply.finish:
        yield {"choices": [{"index": 0, **_piece("", body), "finish_reason": reply.finish}]}
    if reply.usage and (body.get("stream_options") or {}).get("include_usage"):
        yield {"choices": [], "usage": reply.usage}
    yield "[DONE]"


def _piece(text: str, body: dict[str, Any]) -> dict[str, Any]:
    return {"text": text} if "prompt" in body else {"delta": {"content": text} if text else {}}
