"""The server's side of the fast path: uvicorn's protocol class, asked before the application is."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from gateway.access.keyring import KEY_IN_SCOPE
from gateway.begun import BEGUN, Begun
from gateway.fast.exchange import Exchange
from gateway.fast.lane import MAX_BODY_BYTES, PATH, Admitted, Lane
from gateway.fast.rest import Rest
from gateway.protocol import ANSWER, BODY, WAITING, PatientProtocol, unfinished
from gateway.state import GATEWAY, Gateway

_log = logging.getLogger(__name__)


class FastProtocol(PatientProtocol):
    """One connection of a client.

    A chat request of moderate size is kept back until its body is there, and then offered to the
    `Lane` of the gateway. What that does not take goes to the application as if nothing had been.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._gathering = False
        self._body: list[bytes] = []
        self._asking: _Client | None = None

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._gathering = False

    def on_headers_complete(self) -> None:
        if not self._may_be_fast():
            super().on_headers_complete()
            if self._asking is not None:
                # Behind a request that is being answered uvicorn stops reading until the
                # application reads on. Here that is nobody, and nobody would see the client leave.
                self.flow.resume_reading()
            return
        self._check_head()
        self._gathering = True
        self.phase = BODY

    def _may_be_fast(self) -> bool:
        if self.url != PATH or self.expect_100_continue or self.parser.get_method() != b"POST":
            return False
        if self.parser.get_http_version() != "1.1" or self.parser.should_upgrade():
            return False
        before: Any = self.cycle
        if before is not None and not before.response_complete:
            # Behind another one: it has to wait, and the application's queue is where.
            return False
        length = next((value for name, value in self.headers if name == b"content-length"), b"")
        return length.isdigit() and int(length) <= MAX_BODY_BYTES

    def on_body(self, body: bytes) -> None:
        if self._gathering:
            self._body_bytes += len(body)
            self._body.append(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._gathering:
            super().on_message_complete()
            return
        self._gathering = False
        raw = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body = []
        if self._taken(raw):
            # Trailers would be added to the headers that the application gets to see.
            self.headers = []
            self.phase = ANSWER if unfinished(self.cycle) else WAITING
        else:
            super().on_headers_complete()
            super().on_body(raw)
            super().on_message_complete()

    def is_receiving(self) -> bool:
        return self._gathering or super().is_receiving()

    def is_answering(self) -> bool:
        return self._asking is not None or super().is_answering()

    def _taken(self, raw: bytes) -> bool:
        # Tests serve other applications with this class too.
        gateway: Gateway | None = getattr(getattr(self.app, "state", None), "gateway", None)
        lane = None if gateway is None else gateway.lane
        if gateway is None or lane is None:
            return False
        headers = {n.decode("latin-1"): v.decode("latin-1") for n, v in reversed(self.headers)}
        try:
            admitted = lane.admit(raw, headers, self.client[0] if self.client else None)
        except Exception:  # noqa: BLE001 - the parser would take a fault of ours for the client's
            _log.exception("the fast path failed; the ordinary one answers")
            return False
        if admitted is None:
            return False
        client = _Client(self, gateway, lane, admitted)
        self._asking = client
        # The application's queue looks here for whether it may go on.
        self.cycle = client  # type: ignore[assignment]
        gateway.uses.begin()
        try:
            client.exchange.begin()
        except Exception:  # noqa: BLE001 - see above
            client.exchange.fault()
        return True

    def ended(self, client: _Client) -> None:
        """The client's answer is complete."""
        self._asking = None
        if not client.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def to_application(self, client: _Client, begun: Begun, *, committed: bool) -> None:
        """The application goes on with the client."""
        self._asking = None
        gateway = client.gateway
        scope = client.scope
        scope.update(
            method="POST", path=PATH.decode(), raw_path=PATH, query_string=b"", http_version="1.1"
        )
        scope[GATEWAY], scope[BEGUN], scope[KEY_IN_SCOPE] = gateway, begun, begun.ask.key
        scope["state"]["request_id"] = begun.trip.request_id
        cycle = RequestResponseCycle(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=client.keep_alive,
            on_response=self.on_response_complete,
        )
        cycle.more_body = False
        cycle.message_event.set()
        if committed:
            cycle.response_started = cycle.chunked_encoding = True
        current: object = self.cycle
        if current is client:
            self.cycle = cycle
        self._start_asgi_task(cycle, Rest(gateway, begun) if committed else self.app)

    def connection_lost(self, exc: Exception | None) -> None:
        client, self._asking = self._asking, None
        if client is not None:
            client.leave()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._asking is not None:
            self._asking.exchange.pause(paused=True)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._asking is not None:
            self._asking.exchange.pause(paused=False)


class _Client:
    """One request's client on its connection: the exchange's client, and a cycle for the queue.

    Attributes:
        response_complete, disconnected, keep_alive, message_event: As the server's own cycles.
    """

    __slots__ = (
        "_protocol",
        "disconnected",
        "exchange",
        "gateway",
        "keep_alive",
        "message_event",
        "response_complete",
        "scope",
    )  # fmt: skip

    def __init__(
        self, protocol: FastProtocol, gateway: Gateway, lane: Lane, admitted: Admitted
    ) -> None:
        self._protocol = protocol
        self.gateway = gateway
        self.scope: Any = protocol.scope
        self.keep_alive = protocol.parser.should_keep_alive()
        self.response_complete = self.disconnected = False
        self.message_event = _NOBODY_WAITS
        seconds = gateway.service.seconds(admitted.ask)
        self.exchange = Exchange(lane, self, admitted, seconds)

    def send(self, data: bytes) -> None:
        self._protocol.transport.write(data)

    def default_headers(self) -> list[tuple[bytes, bytes]]:
        headers = self._protocol.server_state.default_headers
        return headers if self.keep_alive else [*headers, (b"connection", b"close")]

    def answered(self, *, last: bool = False) -> None:
        self.response_complete = True
        self.keep_alive &= not last
        self.gateway.uses.end()
        self._protocol.ended(self)

    def abort(self) -> None:
        self._protocol.transport.abort()

    def go_on(self, begun: Begun, *, committed: bool) -> None:
        self._protocol.to_application(self, begun, committed=committed)

    def leave(self) -> None:
        """The client is gone."""
        self.disconnected = True
        if not self.exchange.over:
            self.exchange.leave()
            self.gateway.uses.end()


class _NoEvent:
    def set(self) -> None:
        """Nobody waits for it."""


_NOBODY_WAITS = _NoEvent()
