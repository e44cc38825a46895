"""HTTP/1.1 to endpoints without TLS, by callbacks: no task and no copy per call.

An ordinary HTTP client spends more on a call than all the rest of the gateway. This one does what
a model's endpoint next door needs and no more: a POST with a body in hand, an answer handed on as
it comes off the socket, connections kept for the next call.
"""

from __future__ import annotations

import asyncio
import logging
import time
import zlib
from collections.abc import Mapping
from typing import Protocol, cast
from urllib.parse import urlsplit

import httptools

from experts.errors import (
    ExpertCallError,
    ExpertConnectionError,
    ExpertProtocolError,
    ExpertTimeoutError,
)

_log = logging.getLogger(__name__)
_IDLE_S = 4.0
"""Servers close idle connections after five seconds or more; a call must not meet one that goes."""
_MAX_IDLE = 256
CONNECTING_AT_ONCE = 32
"""More would keep the event loop from each other's sockets until all of them are late."""
_MAX_HEAD_BYTES = 64 * 1024
_MAX_UNPACKED = 16 * 1024 * 1024
_GZIP_OR_ZLIB = 47


class Receiver(Protocol):
    """Takes one answer. Its methods never raise; after `on_end` or `on_broken` none is called."""

    def on_head(self, status: int, headers: Mapping[str, str]) -> None:
        """The status and the headers, by lower-case name."""
        ...

    def on_data(self, data: bytes) -> None:
        """A piece of the body, never empty."""
        ...

    def on_end(self) -> None:
        """The body is complete."""
        ...

    def on_broken(self, error: ExpertCallError) -> None:
        """There was no connection, or it ended before the answer did."""
        ...


class PlainCall:
    """One call under way."""

    __slots__ = ("_connection", "_opening", "receiver")

    def __init__(self, receiver: Receiver) -> None:
        self.receiver: Receiver | None = receiver
        self._connection: _Connection | None = None
        self._opening: asyncio.Task[None] | None = None

    def cancel(self) -> None:
        """Give the call up: its connection is closed, its receiver hears nothing more."""
        self.receiver = None
        if self._opening is not None:
            self._opening.cancel()
        if self._connection is not None:
            self._connection.close()

    def pause(self) -> None:
        """Read no more until `resume`: whoever reads the answer is slower than who writes it."""
        if self._connection is not None:
            self._connection.pause(paused=True)

    def resume(self) -> None:
        """Read on."""
        if self._connection is not None:
            self._connection.pause(paused=False)

    def detach(self) -> None:
        """The answer is complete; what still comes of its body is read and dropped for a moment."""
        self.receiver = None
        if self._connection is not None:
            self._connection.drain()


class PlainEndpoint:
    """Calls to one path of one server.

    Args:
        expert_id: Whose calls they are, for errors.
        url: Base URL, `http://` only.
        path: Below it.
        headers: Sent with every call.
        connect_s: Longest wait for a connection.
    """

    def __init__(
        self, expert_id: str, url: str, path: str, headers: Mapping[str, str], connect_s: float
    ) -> None:
        parts = urlsplit(url)
        self.expert_id = expert_id
        self._host = parts.hostname or ""
        self._port = parts.port or 80
        self._connect_s = connect_s
        lines = {
            "host": parts.netloc.rpartition("@")[2],
            "accept": "*/*",
            "accept-encoding": "identity",
            "content-type": "application/json",
            **headers,
        }
        target = f"{parts.path.rstrip('/')}/{path}"
        self._head = f"POST {target} HTTP/1.1\r\n{_header_lines(lines)}content-length: ".encode()
        self._idle: list[_Connection] = []
        self._all: set[_Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._turns = asyncio.Semaphore(CONNECTING_AT_ONCE)
        self._closed = False

    @property
    def connections(self) -> int:
        """How many are open, busy or idle."""
        return len(self._all)

    def send(self, body: bytes, headers: Mapping[str, str], receiver: Receiver) -> PlainCall:
        """Ask; the answer comes to `receiver`, never before this returns."""
        more = _header_lines(headers).encode() if headers else b""
        payload = b"%b%d\r\n%b\r\n%b" % (self._head, len(body), more, body)
        call = PlainCall(receiver)
        connection = self._idle_one()
        if connection is not None:
            connection.start(call, payload)
            return call
        task = asyncio.get_running_loop().create_task(self._opened(call, payload))
        call._opening = task
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)
        return call

    async def aclose(self) -> None:
        """Close every connection."""
        self._closed = True
        for task in list(self._opening):
            task.cancel()
        for connection in list(self._all):
            connection.close()

    def _idle_one(self) -> _Connection | None:
        fresh = time.monotonic() - _IDLE_S
        while self._idle:
            connection = self._idle.pop()
            if connection.idle_since >= fresh:
                return connection
            # It was used last of all, so those below it have waited longer still.
            for old in (connection, *self._idle):
                old.close()
            self._idle.clear()
        return None

    async def _opened(self, call: PlainCall, payload: bytes) -> None:
        try:
            async with self._turns, asyncio.timeout(self._connect_s):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: _Connection(self), self._host, self._port
                )
        except TimeoutError:
            message = f"no connection within {self._connect_s:g} s"
            self._unreached(call, ExpertTimeoutError(self.expert_id, message))
        except OSError as error:
            message = f"no connection: {error}"
            self._unreached(call, ExpertConnectionError(self.expert_id, message))
        else:
            call._opening = None
            if call.receiver is None:
                self.give_back(connection)
            else:
                connection.start(call, payload)

    def _unreached(self, call: PlainCall, error: ExpertCallError) -> None:
        receiver, call.receiver, call._opening = call.receiver, None, None
        if receiver is not None:
            receiver.on_broken(error)

    def opened(self, connection: _Connection) -> None:
        """A connection is there."""
        self._all.add(connection)

    def lost(self, connection: _Connection) -> None:
        """A connection is gone."""
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def give_back(self, connection: _Connection) -> None:
        """A connection can take the next call."""
        if self._closed or len(self._idle) >= _MAX_IDLE:
            connection.close()
            return
        connection.idle_since = time.monotonic()
        self._idle.append(connection)


class _Connection(asyncio.Protocol):
    """One connection; one call at a time."""

    __slots__ = (
        "_call", "_draining", "_endpoint", "_framed", "_head_bytes", "_headers", "_keep", "_parser",
        "_status", "_transport", "_unpack", "idle_since",
    )  # fmt: skip

    def __init__(self, endpoint: PlainEndpoint) -> None:
        self._endpoint = endpoint
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._call: PlainCall | None = None
        self._draining: asyncio.TimerHandle | None = None
        self.idle_since = 0.0
        self._fresh()

    def _fresh(self) -> None:
        self._headers: dict[str, str] = {}
        self._head_bytes = 0
        self._status = 0
        self._framed = False
        self._keep = False
        self._unpack: zlib._Decompress | None = None

    def start(self, call: PlainCall, payload: bytes) -> None:
        """Send a call; the connection is its own until the answer has ended."""
        assert self._transport is not None  # noqa: S101 - it is open
        self._call = call
        call._connection = self
        self._transport.write(payload)

    def close(self) -> None:
        """Close it, whatever is under way."""
        self._endpoint.lost(self)
        if self._transport is not None:
            self._transport.abort()

    def pause(self, *, paused: bool) -> None:
        """Stop reading, or go on."""
        if self._transport is None or self._transport.is_closing():
            return
        if paused:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def drain(self) -> None:
        """Nobody wants the rest; it usually is on its way already."""
        self.pause(paused=False)
        loop = asyncio.get_running_loop()
        self._draining = loop.call_later(0.05, self.close)

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's is none by class.
        self._transport = cast(asyncio.Transport, transport)
        self._endpoint.opened(self)

    def data_received(self, data: bytes) -> None:
        if self._call is None:
            # An answer that nobody asked for.
            self.close()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError:
            _log.exception("reading an answer of %s failed", self._endpoint.expert_id)
            self._break("could not be read")
        except httptools.HttpParserError as error:
            self._break(f"sent no HTTP: {error}")

    def eof_received(self) -> None:
        if self._status and not self._framed and self._call is not None:
            # No length was announced: the end of the connection is the end of the body.
            self._complete()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._status and not self._framed and self._call is not None and exc is None:
            self._complete()
        self._transport = None
        self._break(f"{type(exc).__name__}: {exc}" if exc else "hung up before the answer ended")

    def _break(self, why: str) -> None:
        call, self._call = self._call, None
        began = bool(self._status)
        self._cancel_drain()
        self.close()
        if call is None or call.receiver is None:
            return
        receiver, call.receiver, call._connection = call.receiver, None, None
        kind = ExpertProtocolError if began else ExpertConnectionError
        receiver.on_broken(kind(self._endpoint.expert_id, why))

    # the parser's side

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > _MAX_HEAD_BYTES:
            raise ValueError("the head of the answer is too long")
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            return
        headers = self._headers
        self._status = status
        self._framed = (
            "content-length" in headers
            or "chunked" in headers.get("transfer-encoding", "").lower()
            or status in (204, 304)
        )
        self._keep = self._parser.should_keep_alive() and self._framed
        if headers.get("content-encoding", "identity").lower() in ("gzip", "x-gzip", "deflate"):
            self._unpack = zlib.decompressobj(_GZIP_OR_ZLIB)
        call = self._call
        if call is not None and call.receiver is not None:
            call.receiver.on_head(status, headers)

    def on_body(self, body: bytes) -> None:
        if self._unpack is not None:
            body = self._unpacked(body)
        call = self._call
        if call is not None and call.receiver is not None and body:
            call.receiver.on_data(body)

    def _unpacked(self, body: bytes) -> bytes:
        assert self._unpack is not None  # noqa: S101 - the caller has looked
        try:
            plain = self._unpack.decompress(body, _MAX_UNPACKED)
        except zlib.error:
            plain = b""
        else:
            if not self._unpack.unconsumed_tail:
                return plain
        self._break("sent a body that can't be unpacked")
        return b""

    def on_message_complete(self) -> None:
        if self._status:
            self._complete()
        else:
            # An interim answer; the real one follows.
            self._fresh()

    def _complete(self) -> None:
        call, self._call = self._call, None
        keep = self._keep
        self._cancel_drain()
        self._fresh()
        receiver = None
        if call is not None:
            receiver, call.receiver, call._connection = call.receiver, None, None
        if keep:
            self._endpoint.give_back(self)
        else:
            self.close()
        if receiver is not None:
            receiver.on_end()

    def _cancel_drain(self) -> None:
        if self._draining is not None:
            self._draining.cancel()
            self._draining = None


def _header_lines(headers: Mapping[str, str]) -> str:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items())
