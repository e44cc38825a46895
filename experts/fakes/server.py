"""A server on the loopback address that sends what it is told, down to bytes and moments.

What fake providers share. They say with which bytes, pauses and ends a request is answered.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeVar

import orjson

LAST_CHUNK = b"0\r\n\r\n"
_NO_LINGER = struct.pack("ii", 1, 0)


class Then(Enum):
    """What becomes of a connection."""

    STALL = "stall"
    """Nothing more is sent until the client leaves."""
    CLOSE = "close"
    """It ends in good order, wherever the answer is."""
    RESET = "reset"
    """It breaks: the client's next read fails."""


Act = bytes | float | Then
"""Bytes to send at once, seconds to wait, or the end. After acts without end the next request is
waited for."""


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """One request as it came; `at` is on the monotonic clock, `body` empty if it was not read.

    It came over the connection of this number, as the `turn`-th on it; both count from 1.
    """

    path: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]
    connection: int = 0
    turn: int = 1
    at: float = field(default_factory=time.monotonic)


class FakeServer:
    """Answers requests by acts. It runs in a thread of its own, see `serving`.

    Attributes:
        paths, headers, bodies: Of every request so far.
        connections: How many there were; `open` is how many there are.
        stalled: Set when an answer stalls.
        left: Set when the client of a stalled answer leaves.
        port: Where it listens.
    """

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.headers: list[Mapping[str, str]] = []
        self.bodies: list[Mapping[str, Any]] = []
        self.stalled = threading.Event()
        self.left = threading.Event()
        self.connections = 0
        self.open = 0
        self.port = 0

    @property
    def url(self) -> str:
        """Its base URL, `/v1` included."""
        return f"http://127.0.0.1:{self.port}/v1"

    def acts(self, asked: ReceivedRequest) -> Iterable[Act]:
        """How to answer; called on the server's thread."""
        raise NotImplementedError

    def greets(self) -> Iterable[Act]:
        """What is done with a new connection before a request is read from it."""
        return ()

    def reads_body(self, path: str) -> bool:
        """Whether a request is read to its end before it is answered."""
        return True

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.connections += 1
        self.open += 1
        number, turn = self.connections, 0
        try:
            while True:
                then = None if turn else await self._perform(self.greets(), reader, writer)
                if then is None:
                    turn += 1
                    asked = await self._asked(reader, number, turn)
                    then = await self._perform(self.acts(asked), reader, writer)
                if then is Then.RESET:
                    sock = writer.get_extra_info("socket")
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
                    writer.transport.abort()
                    return
                if then is not None:
                    break
            writer.close()
            await writer.wait_closed()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            self.open -= 1

    async def _asked(
        self, reader: asyncio.StreamReader, connection: int, turn: int
    ) -> ReceivedRequest:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines if line)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        path = first.split(" ")[1]
        content = b""
        if self.reads_body(path):
            content = await reader.readexactly(int(headers.get("content-length", "0")))
        asked = ReceivedRequest(
            path, headers, orjson.loads(content) if content else {}, connection, turn
        )
        self.paths.append(path)
        self.headers.append(headers)
        self.bodies.append(asked.body)
        return asked

    async def _perform(
        self, acts: Iterable[Act], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Then | None:
        for act in acts:
            if isinstance(act, bytes):
                writer.write(act)
                await writer.drain()
            elif isinstance(act, Then):
                if act is Then.STALL:
                    self.stalled.set()
                    with suppress(ConnectionError):
                        await reader.read()
                    self.left.set()
                return act
            else:
                await asyncio.sleep(act)
        return None


ServerT = TypeVar("ServerT", bound=FakeServer)


@contextmanager
def serving(server: ServerT, tls: ssl.SSLContext | None = None) -> Iterator[ServerT]:
    """`server` on a free port, while the context is open."""
    loop = asyncio.new_event_loop()
    listener = loop.run_until_complete(
        asyncio.start_server(server.handle, "127.0.0.1", 0, ssl=tls, backlog=1024)
    )
    server.port = listener.sockets[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever, name=type(server).__name__)
    thread.start()
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(_stop(listener), loop).result(timeout=10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _stop(listener: asyncio.Server) -> None:
    listener.close()
    running = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in running:
        task.cancel()
    if running:
        await asyncio.wait(running, timeout=5)
    # Aborted transports close their sockets in the loop's next round.
    await asyncio.sleep(0)


def head(status: int, headers: Mapping[str, Any], length: int | None) -> bytes:
    """The head of an answer; without a length its body comes in chunks."""
    framing = {"transfer-encoding": "chunked"} if length is None else {"content-length": length}
    lines = [f"HTTP/1.1 {status} scripted"]
    lines += [f"{name}: {value}" for name, value in {**framing, **headers}.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def chunk(data: bytes) -> bytes:
    """A piece of a body of unknown length."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def whole(status: int, content: Any, headers: Mapping[str, Any]) -> bytes:
    """A JSON answer from its first byte to its last."""
    data = orjson.dumps(content)
    return head(status, {"content-type": "application/json", **headers}, len(data)) + data


def event(payload: Any, name: str | None = None) -> bytes:
    """A server-sent event; text goes as it is, all else as JSON."""
    data = payload.encode() if isinstance(payload, str) else orjson.dumps(payload)
    return (b"event: %b\n" % name.encode() if name else b"") + b"data: %b\n\n" % data
