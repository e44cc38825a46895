"""One connection to a server without TLS, read by callbacks: one call at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Protocol, cast

import httptools

from experts.errors import ExpertCallError, ExpertConnectionError, ExpertProtocolError
from experts.http.heads import KnownHead, template_of
from experts.http.outbox import Outbox
from experts.http.unpacking import Unpacker, UnpackingError, unpacker_of

_log = logging.getLogger(__name__)
_MOST_AT_ONCE = 1024 * 1024
_MAX_HEAD_BYTES = 64 * 1024


class _RefusedError(ValueError):
    """Raised through the parser: what comes is read no further."""


class Receiver(Protocol):
    """Takes one answer. Its methods never raise; after `on_end` or `on_broken` none is called."""

    def on_whole(self, headers: Mapping[str, str], body: bytes) -> None:
        """An answer with status 200, all of it at once: in place of the three that follow."""
        ...

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
        self._connection: Connection | None = None
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


class Owner(Protocol):
    """Who opened a connection.

    Attributes:
        expert_id: Whose calls they are, for errors.
        outbox: Sends them.
        template: The head of its last whole answer.
    """

    expert_id: str
    outbox: Outbox
    template: KnownHead | None

    def opened(self, connection: Connection) -> None:
        """A connection is there."""
        ...

    def lost(self, connection: Connection) -> None:
        """A connection is gone."""
        ...

    def give_back(self, connection: Connection) -> None:
        """A connection can take the next call."""
        ...


class Connection(asyncio.Protocol):
    """One connection; one call at a time."""

    __slots__ = (
        "_call", "_draining", "_ended", "_endpoint", "_framed", "_fresh_head", "_head_bytes",
        "_headers", "_keep", "_parser", "_paused", "_piece", "_pieces", "_raw", "_status",
        "_transport", "_unpack", "idle_since",
    )  # fmt: skip

    def __init__(self, endpoint: Owner) -> None:
        self._endpoint = endpoint
        self._parser: Any = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._call: PlainCall | None = None
        self._draining: asyncio.TimerHandle | None = None
        self._pieces: list[bytes] = []
        self._paused = False
        self.idle_since = 0.0
        self._fresh()

    def _fresh(self) -> None:
        self._fresh_head = True
        self._piece = b""
        self._raw: list[tuple[bytes, bytes]] = []
        self._headers: dict[str, str] = {}
        self._head_bytes = 0
        self._status = 0
        self._framed = False
        self._keep = False
        self._ended = False
        self._unpack: Unpacker | None = None

    @property
    def is_open(self) -> bool:
        """Whether a call can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def start(self, call: PlainCall, payload: bytes) -> None:
        """Send a call; the connection is its own until the answer has ended."""
        assert self._transport is not None  # noqa: S101 - it is open
        self._call = call
        call._connection = self
        self._endpoint.outbox.send(self._transport, payload)

    def close(self) -> None:
        """Close it, whatever is under way."""
        self._endpoint.lost(self)
        if self._transport is not None:
            self._transport.abort()

    def pause(self, *, paused: bool) -> None:
        """Stop reading, or go on."""
        if self._transport is None or self._transport.is_closing():
            return
        self._paused = paused
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
        call, template = self._call, self._endpoint.template
        if call is None:
            # An answer that nobody asked for.
            self.close()
            return
        self._piece = b""
        if self._fresh_head:
            body = None if template is None else template.body_of(data, _MOST_AT_ONCE)
            if body is not None and template is not None:
                self._whole(call, template.headers, body)
                return
            self._piece, self._fresh_head = data, False
        wrong = self._parsed(data)
        self._pass_on()
        if self._ended:
            # Not while it is parsed: what is behind the answer must not go to the next call.
            self._keep = self._keep and wrong is None
            self._complete()
        elif wrong is not None:
            self._break(wrong)

    def _parsed(self, data: bytes) -> str | None:
        """Tell the parser; returns what is wrong with it, if anything is."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            return "offered another protocol"
        except httptools.HttpParserCallbackError as error:
            if isinstance(error.__context__, _RefusedError):
                return str(error.__context__)
            _log.exception("reading an answer of %s failed", self._endpoint.expert_id)
            return "could not be read"
        except httptools.HttpParserError as error:
            return f"sent no HTTP: {error}"
        return None

    def _whole(self, call: PlainCall, headers: Mapping[str, str], body: bytes) -> None:
        """An answer whose head was parsed before."""
        receiver, call.receiver, call._connection, self._call = call.receiver, None, None, None
        self._endpoint.give_back(self)
        if receiver is not None:
            receiver.on_whole(headers, body)

    def eof_received(self) -> None:
        if self._call is None:
            # At once: it would be in the pool until asyncio says that it is lost.
            self.close()
        elif self._status and not self._framed:
            # No length was announced: the end of the connection is the end of the body.
            self._complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        # It refers to us: together we would wait for the garbage collector.
        self._parser = None
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

    def on_message_begin(self) -> None:
        if self._ended:
            raise _RefusedError("sent an answer that nobody asked for")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > _MAX_HEAD_BYTES:
            raise _RefusedError(f"sent a head of more than {_MAX_HEAD_BYTES} bytes")
        if self._status:
            # A trailer: whoever has the head has it as it was.
            return
        self._raw.append((name.lower(), value))
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 100:
            raise _RefusedError(f"answered with status {status}")
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
        self._unpack = unpacker_of(headers.get("content-encoding"))
        call = self._call
        if call is not None and call.receiver is not None:
            call.receiver.on_head(status, headers)

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)

    def _pass_on(self) -> None:
        """Hand over all that one read brought of a body: tokens come together when it is busy."""
        if not self._pieces:
            return
        body = b"".join(self._pieces)
        self._pieces.clear()
        if self._unpack is not None:
            body = self._unpacked(body)
        call = self._call
        if call is not None and call.receiver is not None and body:
            call.receiver.on_data(body)

    def _unpacked(self, body: bytes) -> bytes:
        assert self._unpack is not None  # noqa: S101 - the caller has looked
        try:
            return self._unpack.feed(body)
        except UnpackingError as error:
            self._break(str(error))
            return b""

    def on_message_complete(self) -> None:
        if self._status:
            self._ended = True
        else:
            # An interim answer; the real one follows, perhaps begins in the same piece.
            self._fresh()
            self._fresh_head = False

    def _complete(self) -> None:
        call, self._call = self._call, None
        keep = self._keep and self.is_open
        if keep and self._status == 200 and self._unpack is None and self._piece:
            self._endpoint.template = template_of(self._piece, self._raw, self._headers)
        self._cancel_drain()
        self._fresh()
        receiver = None
        if call is not None:
            receiver, call.receiver, call._connection = call.receiver, None, None
        if keep:
            if self._paused:
                self.pause(paused=False)
            self._endpoint.give_back(self)
        else:
            self.close()
        if receiver is not None:
            receiver.on_end()

    def _cancel_drain(self) -> None:
        if self._draining is not None:
            self._draining.cancel()
            self._draining = None
