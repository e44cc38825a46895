"""A server that does what a script says, byte by byte, and who asks it by the callback client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from experts.errors import ExpertCallError
from experts.http.plain_http import PlainEndpoint

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n"
HELLO = OK + b"content-length: 5\r\n\r\nhello"


class Heard:
    """Remembers what a call brought."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self.pieces: list[bytes] = []
        self.error: ExpertCallError | None = None
        self.began = asyncio.Event()
        self.ended = asyncio.Event()
        self.ends = 0

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    def on_whole(self, headers: Mapping[str, str], body: bytes) -> None:
        self.on_head(200, headers)
        self.on_data(body)
        self.on_end()

    def on_head(self, status: int, headers: Mapping[str, str]) -> None:
        self.status, self.headers = status, headers

    def on_data(self, data: bytes) -> None:
        self.pieces.append(data)
        self.began.set()

    def on_end(self) -> None:
        self.ends += 1
        self.ended.set()

    def on_broken(self, error: ExpertCallError) -> None:
        self.error = error
        self.on_end()


class Server:
    """A server on the loopback address.

    Attributes:
        requests: Heads and bodies as they came.
        connections: How many were made.
        gone: Set when a client has closed its connection.
    """

    def __init__(self, script: Script) -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self.gone = asyncio.Event()
        self.url = ""
        self._script = script

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                self.requests.append(head + await reader.readexactly(length))
                await self._script(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.gone.set()
        finally:
            writer.close()


@asynccontextmanager
async def serving(script: Script) -> AsyncIterator[Server]:
    server = Server(script)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1"
    try:
        yield server
    finally:
        listening.close()


def says(*pieces: bytes, close: bool = False) -> Script:
    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        if close:
            writer.close()

    return script


def endpoint(url: str, connect_s: float = 5.0) -> PlainEndpoint:
    return PlainEndpoint("x", url, "chat/completions", {"authorization": "Bearer k"}, connect_s)


async def turned(done: Callable[[], bool]) -> None:
    """Let the event loop turn until it is so."""
    for _ in range(100_000):
        if done():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never was")


async def asked(place: PlainEndpoint, body: bytes = b"{}") -> Heard:
    heard = Heard()
    place.send(body, {"traceparent": "t"}, heard)
    async with asyncio.timeout(10):
        await heard.ended.wait()
    return heard
