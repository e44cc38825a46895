"""uvicorn's HTTP/1.1 with bounds on what one connection may cost, and some of its faults mended."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, TypeVar

import httptools
import orjson
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from gateway.errors import ApiError
from gateway.server.connection_limits import LINGER_S, ConnectionLimits, Sweeper, Untaken
from gateway.state import Gateway
from gateway.telemetry.request_id import HEADER, request_id_from

_log = logging.getLogger(__name__)

T = TypeVar("T")

WAITING, HEAD, BODY, ANSWER, REFUSED = range(5)
"""Phases of a connection: between requests, within a head, within a body, all received, done."""
_OFFER = (b"upgrade", b"connection", b"http2-settings")
_BODY_BYTES_PER_S = 64 * 1024
_MAX_PIPELINED = 16
_HOST = re.compile(rb"[\w.~!$&'()*+,;=:%\[\]-]*")
"""Every character that a URL may have in its host and port."""


class PatientProtocol(HttpToolsProtocol):
    """uvicorn's protocol with bounds; give it to `uvicorn.Config(http=...)` as a partial.

    Attributes:
        phase: Where the connection is; a subclass that takes over a callback keeps it right.
        turn: Grows with every request, so that two requests are not taken for one long one.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        limits: ConnectionLimits,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.limits = limits
        self.phase = WAITING
        self.turn = 0
        self._head_bytes = 0
        self._chunk_bytes = 0
        self._body_bytes = 0
        self._loose_bytes = 0
        self._refusal: ApiError | None = None
        self._running: RequestResponseCycle | None = None
        self._stopping: asyncio.TimerHandle | None = None
        self._seen = (self.turn, self.phase)
        self._since = 0.0
        self._untaken = Untaken()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._since = self.loop.time()
        if not _sweeper_of(self).enter(self):
            self.refuse(
                ApiError(
                    503,
                    "too many connections are open; try again",
                    type="server_error",
                    code="too_many_connections",
                )
            )
            # Nobody looks after it: without this, who never closes it would have it for ever.
            self.loop.call_later(LINGER_S, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.phase = REFUSED
        _sweeper_of(self).leave(self)
        if self._running is not None and self._running is not self.cycle:
            # uvicorn tells only the last of several pipelined requests.
            _tell_left(self._running)

    def data_received(self, data: bytes) -> None:
        if self.phase == REFUSED:
            return
        self._unset_keepalive_if_required()
        self._chunk_bytes = len(data)
        body_bytes = self._body_bytes
        self._parse(data)
        if self.phase == HEAD:
            self._head_bytes += len(data)
            if self._head_bytes > self.limits.max_head_bytes:
                self.refuse(_too_large("the head of the request is longer than", self.limits))
        elif self.phase == BODY and self._body_bytes == body_bytes:
            # Trailers and the like: they belong to no body, and no limit of bodies bounds them.
            self._loose_bytes += len(data)
            if self._loose_bytes > self.limits.max_head_bytes:
                self.refuse(_too_large("the trailers of the request are longer than", self.limits))

    def _parse(self, data: bytes) -> None:
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                # To the parser all that follows is another protocol. It is not: read it again.
                data = self._without_offer() + data[offer.args[0] :]
                self.parser = httptools.HttpRequestParser(self)
            except httptools.HttpParserError:
                refusal, self._refusal = self._refusal, None
                self.refuse(refusal or ApiError(400, "this is no valid HTTP/1.1", code="bad_http"))
                return
            else:
                return

    def _without_offer(self) -> bytes:
        """The head that was just read, but for its offer to speak HTTP/2 or something else."""
        version = self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)]
        lines += [name + b": " + value for name, value in self.headers if name not in _OFFER]
        if any(b"close" in value.lower() for name, value in self.headers if name == b"connection"):
            lines.append(b"connection: close")
        return b"\r\n".join([*lines, b"", b""])

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.phase = HEAD
        self.turn += 1
        self._head_bytes = self._body_bytes = self._loose_bytes = 0

    def on_headers_complete(self) -> None:
        self._check_head()
        if self.parser.should_upgrade():
            return
        super().on_headers_complete()
        self.phase = BODY
        if self.parser.get_http_version() != "1.1":
            # uvicorn lets nobody choose the class that it makes.
            self.cycle.__class__ = _UntilClose
        if 0 < len(self.pipeline) < _MAX_PIPELINED:
            # Behind a request that is being answered uvicorn stops reading until the application
            # reads on, which it may never do, and nobody would see the client leave.
            self.flow.resume_reading()
        # Trailers would be added to the headers that a proxy before us has looked at.
        self.headers = []

    def _check_head(self) -> None:
        """Raises ApiError for what is too large; the parser stops, and `refuse` says it."""
        limits = self.limits
        if len(self.headers) > limits.max_headers:
            self._refusal = ApiError(431, f"more than {limits.max_headers} headers", code="headers")
        elif self._head_bytes + self._chunk_bytes > limits.max_head_bytes:
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size > limits.max_head_bytes:
                self._refusal = _too_large("the head of the request is longer than", limits)
        if len(self.pipeline) >= _MAX_PIPELINED:
            self._refusal = ApiError(400, "too many requests were sent without awaiting answers")
        if self.parser.get_method() == b"CONNECT":
            self._refusal = ApiError(400, "this is no proxy", code="bad_http")
        self._check_host()
        if self._refusal is not None:
            raise self._refusal

    def _check_host(self) -> None:
        """RFC 9112 3.2: one that every proxy before us reads in the same way."""
        hosts = [value for name, value in self.headers if name == b"host"]
        # HTTP/1.0 knows no hosts.
        if not hosts and self.parser.get_http_version() == "1.1":
            self._refusal = ApiError(400, "there is no `Host` header", code="bad_http")
        elif len(hosts) > 1:
            self._refusal = ApiError(400, "there are several `Host` headers", code="bad_http")
        elif hosts and not _HOST.fullmatch(hosts[0]):
            self._refusal = ApiError(400, "the `Host` header names no host", code="bad_http")

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        super().on_message_complete()
        self.phase = ANSWER if unfinished(self.cycle) else WAITING

    def on_response_complete(self) -> None:
        if self.phase == ANSWER and not self.pipeline:
            self.phase = WAITING
            self.turn += 1
        super().on_response_complete()
        # The sweep closes idle connections. This timer sees only some of the requests.
        self._unset_keepalive_if_required()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def refuse(self, failure: ApiError) -> None:
        """Answer with an error if nothing else is being answered, and hear no more."""
        self.phase = REFUSED
        self._since = self.loop.time()
        if self.transport.is_closing():
            return
        if self.is_answering():
            # In the middle of another answer it would be read as a part of that.
            self.transport.abort()
            return
        if unfinished(self.cycle):
            _tell_left(self.cycle)
        self._unset_keepalive_if_required()
        self.flush()
        self.transport.write(_written(failure, self.server_state.default_headers))
        if self.transport.can_write_eof():
            # Closed at once with input unread, the socket would take the answer back.
            self.transport.write_eof()

    def flush(self) -> None:
        """Send what a subclass keeps back: something else is about to be sent, or nothing more."""

    def resume_writing(self) -> None:
        super().resume_writing()
        self._untaken.reset()

    def is_receiving(self) -> bool:
        """Whether the body that comes is still wanted."""
        return unfinished(self.cycle)

    def is_answering(self) -> bool:
        """Whether a part of an answer was sent, or an earlier one must be."""
        running = self._running
        if running is None or running.response_complete:
            return False
        return running is not self.cycle or running.response_started

    def eof_received(self) -> None:
        # The event loop closes the connection behind this.
        self.flush()
        super().eof_received()

    def shutdown(self) -> None:
        self.flush()
        super().shutdown()
        _sweeper_of(self).stop(_gateway_of(self.config))

    def idle_since(self) -> float | None:
        """Since when nothing is asked over it; None: something is, or its answer is not taken."""
        if self.phase != WAITING or self.transport.get_write_buffer_size():
            return None
        return self._since

    def make_room(self) -> None:
        """Close it for the sake of others."""
        self.flush()
        self.transport.close()

    def check(self, now: float) -> None:
        """Close the connection if its client kept us waiting for too long."""
        self._check_taken(now)
        if self._seen != (self.turn, self.phase) or self.flow.read_paused:
            self._seen = (self.turn, self.phase)
            self._since = now
            return
        waited = now - self._since
        if self.phase == HEAD and waited > self.limits.head_s:
            self.refuse(_too_slow("the head of the request", self.limits.head_s))
        elif self.phase == BODY and waited > self._body_s():
            self._give_up_body()
        elif self.phase == WAITING and waited > self._idle_s():
            self.transport.close()
        elif self.phase == REFUSED and waited > LINGER_S:
            self.transport.abort()

    def _body_s(self) -> float:
        # What is only thrown away, because it was answered before it was complete, earns no time.
        earned = self._body_bytes / _BODY_BYTES_PER_S if self.is_receiving() else 0.0
        return self.limits.body_s + earned

    def _idle_s(self) -> float:
        return self.limits.keep_alive_s if self.turn else self.limits.head_s

    def _give_up_body(self) -> None:
        if self.is_receiving():
            self.refuse(_too_slow("the body of the request", self.limits.body_s))
        else:
            self.transport.abort()

    def _check_taken(self, now: float) -> None:
        """Drop a client that takes nothing of its answer."""
        if not (self.flow.write_paused or self.transport.is_closing()):
            self._untaken.reset()
        elif self._untaken.for_s(self.transport.get_write_buffer_size(), now) > self.limits.write_s:
            self.transport.abort()


class _UntilClose(RequestResponseCycle):
    """HTTP/1.0 knows no chunks: an answer of unknown length ends with its connection."""

    _unbounded = False

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            lengths = [name for name, _ in message["headers"] if name.lower() == b"content-length"]
            self._unbounded = not lengths
            if self._unbounded:
                self.chunked_encoding = False
        elif self._unbounded:
            self.expected_content_length = len(message["body"])
        await super().send(message)


_SWEEPER = "pointsman_sweeper"


def _sweeper_of(protocol: PatientProtocol) -> Sweeper:
    return shared(protocol.server_state, _SWEEPER, lambda: Sweeper(protocol.loop, protocol.limits))


def shared(state: ServerState, name: str, make: Callable[[], T]) -> T:
    """What all connections of a server have together, made for the first of them."""
    found: T | None = getattr(state, name, None)
    if found is None:
        found = make()
        setattr(state, name, found)
    return found


def unfinished(cycle: RequestResponseCycle | None) -> bool:
    """Whether a request is there whose answer is not complete."""
    return cycle is not None and not cycle.response_complete


def _tell_left(cycle: RequestResponseCycle) -> None:
    cycle.disconnected = True
    cycle.message_event.set()


def _gateway_of(config: Config) -> Gateway:
    gateway: Gateway = config.loaded_app.state.gateway
    return gateway


def _too_large(what: str, limits: ConnectionLimits) -> ApiError:
    return ApiError(431, f"{what} {limits.max_head_bytes} bytes", code="head_too_large")


def _too_slow(what: str, seconds: float) -> ApiError:
    return ApiError(408, f"{what} did not come within {seconds:g} s", code="too_slow")


def _written(failure: ApiError, headers: list[tuple[bytes, bytes]]) -> bytes:
    body = orjson.dumps(failure.body())
    phrase = HTTPStatus(failure.status).phrase
    lines = [f"HTTP/1.1 {failure.status} {phrase}".encode()]
    lines += [name + b": " + value for name, value in headers]
    request_id = request_id_from(None)
    _log.debug("refused %s: %d %s", request_id, failure.status, failure.message)
    lines += [f"{HEADER}: {request_id}".encode(), b"content-type: application/json"]
    lines.append(b"content-length: %d" % len(body))
    return b"\r\n".join([*lines, b"connection: close", b"", body])
