"""The server's side of the fast path: uvicorn's protocol class, asked before the application is."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from experts.heads import KnownHead, template_of
from gateway.access.keyring import KEY_IN_SCOPE
from gateway.begun import BEGUN, Begun
from gateway.errors import LedgerError
from gateway.fast.exchange import Exchange
from gateway.fast.lane import MAX_BODY_BYTES, PATH, Admitted, Lane
from gateway.fast.rest import Rest
from gateway.protocol import ANSWER, BODY, WAITING, PatientProtocol, unfinished
from gateway.state import GATEWAY, Gateway

_log = logging.getLogger(__name__)
_BEHIND_S = 1.0
"""How long a request waits here for a ledger that is behind."""


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
        self._template: KnownHead | None = None
        self._piece = b""

    def data_received(self, data: bytes) -> None:
        if self.phase == WAITING and not unfinished(self.cycle):
            template = self._template
            if template is not None:
                body = template.body_of(data, MAX_BODY_BYTES)
                if body is not None and self._repeated(template, body):
                    return
            self._piece = data
        super().data_received(data)

    def _repeated(self, template: KnownHead, body: bytes) -> bool:
        """Take a request whose head was parsed before; False: it has to be parsed after all."""
        client = self._client_of(body, template.headers)
        if client is None:
            return False
        client.raw_headers = template.raw
        self.turn += 1
        if not self._takes(client):
            return False
        self.phase = ANSWER if unfinished(self.cycle) else WAITING
        return True

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
        headers = {n.decode("latin-1"): v.decode("latin-1") for n, v in reversed(self.headers)}
        client = self._client_of(raw, headers)
        if client is not None:
            client.scope = self.scope
            client.keep_alive = self.parser.should_keep_alive()
        if client is not None and self._takes(client):
            if client.keep_alive:
                self._template = template_of(self._piece, self.headers, headers)
            # Trailers would be added to the headers that the application gets to see.
            self.headers = []
            self.phase = ANSWER if unfinished(self.cycle) else WAITING
        else:
            super().on_headers_complete()
            super().on_body(raw)
            super().on_message_complete()
        self._piece = b""

    def is_receiving(self) -> bool:
        return self._gathering or super().is_receiving()

    def is_answering(self) -> bool:
        return self._asking is not None or super().is_answering()

    def _client_of(self, raw: bytes, headers: Mapping[str, str]) -> _Client | None:
        # Tests serve other applications with this class too.
        gateway: Gateway | None = getattr(getattr(self.app, "state", None), "gateway", None)
        lane = None if gateway is None else gateway.lane
        if gateway is None or lane is None or not lane.open:
            return None
        return _Client(self, gateway, lane, raw, headers)

    def _takes(self, client: _Client) -> bool:
        if client.pressed:
            self._seat(client)
            client.wait()
            return True
        admitted = client.admitted()
        if admitted is None:
            return False
        self._seat(client)
        client.begin(admitted)
        return True

    def _seat(self, client: _Client) -> None:
        self._asking = client
        # The application's queue looks here for whether it may go on.
        self.cycle = client  # type: ignore[assignment]
        client.gateway.uses.begin()

    def ended(self, client: _Client) -> None:
        """The client's answer is complete."""
        self._asking = None
        if not client.keep_alive:
            self.transport.close()
        if self.pipeline or self.transport.is_closing():
            self.on_response_complete()
            return
        # The same as far as there is something to do; the sweep looks after idle connections.
        self.server_state.total_requests += 1
        if self.flow.read_paused:
            self.flow.resume_reading()
        if self.phase == ANSWER:
            self.phase = WAITING
        self.turn += 1

    def to_application(
        self, client: _Client, begun: Begun | None, *, committed: bool = False
    ) -> None:
        """The application goes on with the client, or begins if nothing was begun."""
        self._asking = None
        cycle = RequestResponseCycle(
            scope=self._scope_of(client, begun),
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
        if begun is None:
            cycle.body += client.raw
            client.gateway.uses.end()
        if committed:
            cycle.response_started = cycle.chunked_encoding = True
        current: object = self.cycle
        if current is client:
            self.cycle = cycle
        rest = begun is not None and committed
        app = Rest(client.gateway, begun) if begun is not None and rest else self.app
        self._start_asgi_task(cycle, app)

    def _scope_of(self, client: _Client, begun: Begun | None) -> Any:
        scope: Any = client.scope
        if scope is None:
            # The same that the server makes of a head which it parses.
            scope = {
                "type": "http",
                "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
                "server": self.server,
                "client": self.client,
                "scheme": self.scheme,
                "root_path": self.root_path,
                "headers": list(client.raw_headers),
                "state": self.app_state.copy(),
            }
        scope.update(
            method="POST", path=PATH.decode(), raw_path=PATH, query_string=b"", http_version="1.1"
        )
        scope[GATEWAY] = client.gateway
        if begun is not None:
            scope[BEGUN], scope[KEY_IN_SCOPE] = begun, begun.ask.key
            scope["state"]["request_id"] = begun.trip.request_id
        return scope

    def connection_lost(self, exc: Exception | None) -> None:
        client, self._asking = self._asking, None
        if client is not None:
            client.leave()
        super().connection_lost(exc)
        if isinstance(self.cycle, _Client):
            # It refers to us: together we would wait for the garbage collector.
            self.cycle = None

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._asking is not None:
            self._asking.pause(paused=True)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._asking is not None:
            self._asking.pause(paused=False)


class _Client:
    """One request's client on its connection: the exchange's client, and a cycle for the queue.

    Attributes:
        response_complete, disconnected, keep_alive, message_event: As the server's own cycles.
        scope: What the server's parser made of the head; None if that was not asked.
        raw_headers: The headers then.
    """

    __slots__ = (
        "_exchange", "_headers", "_lane", "_patient_until", "_protocol", "disconnected", "gateway",
        "keep_alive", "message_event", "raw", "raw_headers", "response_complete", "scope",
    )  # fmt: skip

    def __init__(
        self,
        protocol: FastProtocol,
        gateway: Gateway,
        lane: Lane,
        raw: bytes,
        headers: Mapping[str, str],
    ) -> None:
        self._protocol = protocol
        self._lane = lane
        self._headers = headers
        self._patient_until = 0.0
        self._exchange: Exchange | None = None
        self.gateway = gateway
        self.raw = raw
        self.scope: Any = None
        self.raw_headers: Sequence[tuple[bytes, bytes]] = ()
        self.keep_alive = True
        self.response_complete = self.disconnected = False
        self.message_event = _NOBODY_WAITS

    @property
    def pressed(self) -> bool:
        """Whether it has to wait for the ledger."""
        return self._lane.pressed

    def admitted(self) -> Admitted | None:
        """What is asked; None if that is for the ordinary path."""
        client = self._protocol.client
        try:
            return self._lane.admit(self.raw, self._headers, client[0] if client else None)
        except Exception:  # noqa: BLE001 - the parser would take a fault of ours for the client's
            _log.exception("the fast path failed; the ordinary one answers")
            return None

    def begin(self, admitted: Admitted) -> None:
        """Have it answered."""
        seconds = self.gateway.service.seconds(admitted.ask)
        exchange = self._exchange = Exchange(self._lane, self, admitted, seconds)
        try:
            exchange.begin()
        except Exception:  # noqa: BLE001 - see above
            exchange.fault()

    def wait(self) -> None:
        """The ledger is behind: come back when what it has is written, or else in a second."""
        loop = self._protocol.loop
        self._patient_until = loop.time() + _BEHIND_S
        self._lane.wheel.add(self, loop)
        self._lane.ledger.append_then((), self._written)

    def _written(self, error: LedgerError | None) -> None:
        if not self._patient_until or self.disconnected:
            return
        if self._lane.pressed and error is None:
            self._lane.ledger.append_then((), self._written)
            return
        self._stop_waiting()
        admitted = self.admitted()
        if admitted is None:
            self._protocol.to_application(self, None)
        else:
            self.begin(admitted)

    def check(self, now: float) -> None:
        """See `gateway.fast.clock.Timed`: the ordinary path waits longer, and says so at last."""
        if self._patient_until and now >= self._patient_until:
            self._stop_waiting()
            self._protocol.to_application(self, None)

    def _stop_waiting(self) -> None:
        self._patient_until = 0.0
        self._lane.wheel.discard(self)

    def send(self, data: bytes) -> None:
        self._protocol.transport.write(data)

    def default_headers(self) -> list[tuple[bytes, bytes]]:
        headers = self._protocol.server_state.default_headers
        return headers if self.keep_alive else [*headers, (b"connection", b"close")]

    def answered(self, *, last: bool = False) -> None:
        self._part()
        self.response_complete = True
        self.keep_alive &= not last
        self.gateway.uses.end()
        self._protocol.ended(self)

    def abort(self) -> None:
        self._protocol.transport.abort()

    def go_on(self, begun: Begun, *, committed: bool) -> None:
        self._part()
        self._protocol.to_application(self, begun, committed=committed)

    def pause(self, *, paused: bool) -> None:
        """The client reads more slowly than it is written to, or has caught up."""
        if self._exchange is not None:
            self._exchange.pause(paused=paused)

    def leave(self) -> None:
        """The client is gone."""
        self.disconnected = True
        if self._exchange is None:
            self._stop_waiting()
        else:
            self._exchange.leave()
            self._part()
        self.gateway.uses.end()

    def _part(self) -> None:
        """The exchange is over: what refers to each other would wait for the garbage collector."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.release()


class _NoEvent:
    def set(self) -> None:
        """Nobody waits for it."""


_NOBODY_WAITS = _NoEvent()
