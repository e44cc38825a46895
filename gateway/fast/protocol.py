"""The server's side of the fast path: uvicorn's protocol class, asked before the application is."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from experts.http.heads import KnownHead, template_of
from experts.http.outbox import Outbox
from gateway.access.keyring import KEY_IN_SCOPE
from gateway.begun import BEGUN, Begun
from gateway.fast.lane import MAX_BODY_BYTES, PATH, PATHS
from gateway.fast.plans import Visit
from gateway.fast.quick import Quick
from gateway.fast.rest import Rest
from gateway.fast.seat import Seat
from gateway.server.protocol import ANSWER, BODY, WAITING, PatientProtocol, shared, unfinished
from gateway.state import GATEWAY, Gateway

_log = logging.getLogger(__name__)
_OUTBOX = "pointsman_outbox"


class FastProtocol(PatientProtocol):
    """One connection of a client.

    A chat request of moderate size is kept back until its body is there, and then offered to the
    `Lane` of the gateway. What that does not take goes to the application as if nothing had been.

    Attributes:
        outbox: Sends the answers of the lane.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.outbox = shared(self.server_state, _OUTBOX, Outbox)
        self._gathering = False
        self._body: list[bytes] = []
        self._asking: Seat | Quick | None = None
        self._template: KnownHead | None = None
        self._visit: Visit | None = None
        self._piece = b""

    def data_received(self, data: bytes) -> None:
        piece = b""
        if self.phase == WAITING and not (unfinished(self.cycle) or self.flow.write_paused):
            template = self._template
            body = None if template is None else template.body_of(data, MAX_BODY_BYTES)
            if template is not None and body is not None and self._takes_body(template, body):
                return
            piece = data
        self._piece = piece
        super().data_received(data)

    def _takes_body(self, head: KnownHead, body: bytes) -> bool:
        return self._is_quick(head, body) or self._repeated(head, body)

    def _is_quick(self, head: KnownHead, body: bytes) -> bool:
        """Take a request if there is nothing special about it."""
        visit = self._visit
        try:
            if visit is None or not visit.holds(head):
                visit = self._visit = self._visit_of(head)
            quick = None if visit is None else Quick.of(self, visit, body)
        except Exception:  # noqa: BLE001 - the parser would take a fault of ours for the client's
            _log.exception("the fast path failed; the ordinary one answers")
            return False
        if quick is None:
            return False
        self._seat(quick, quick.gateway)
        self.turn += 1
        self.phase = ANSWER
        try:
            quick.begin()
        except Exception:  # noqa: BLE001 - see above
            quick.fault()
        return True

    def _visit_of(self, head: KnownHead) -> Visit | None:
        gateway = self._gateway()
        lane = None if gateway is None else gateway.lane
        if gateway is None or lane is None or not lane.open:
            return None
        return lane.plans.visit(gateway, head, self.client[0] if self.client else None)

    def client_of(self, quick: Quick) -> Seat:
        """Whoever stands in for a quick request that became an exchange."""
        visit = quick.visit
        client = Seat(self, quick.gateway, visit.lane, quick.raw, visit.headers)
        client.raw_headers, client.keep_alive = visit.raw_headers, quick.keep_alive
        if self._asking is quick:
            self._asking = client
        current: object = self.cycle
        if current is quick:
            self.cycle = client  # type: ignore[assignment]
        return client

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
            return
        self._check_head()
        self._gathering = True
        self.phase = BODY

    def _may_be_fast(self) -> bool:
        if self.url not in PATHS or self.expect_100_continue or self.parser.get_method() != b"POST":
            return False
        if self.parser.get_http_version() != "1.1" or self.parser.should_upgrade():
            return False
        before: Any = self.cycle
        if before is not None and not before.response_complete:
            # Behind another one: it has to wait, and the application's queue is where.
            return False
        if self.flow.write_paused:
            # Nobody would say when to stop reading: its client has yet to take an earlier answer.
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
        raw = self._gathered()
        headers = {n.decode("latin-1"): v.decode("latin-1") for n, v in reversed(self.headers)}
        template = None
        if self.parser.should_keep_alive():
            template = template_of(self._piece, self.headers, headers)
            head = template or KnownHead(b"", b"", self.headers, headers)
            if self._is_quick(head, raw):
                self._template, self.headers, self._piece = template, [], b""
                return
        client = self._client_of(raw, headers)
        if client is not None:
            client.scope = self.scope
            client.keep_alive = self.parser.should_keep_alive()
        if client is not None and self._takes(client):
            if client.keep_alive:
                self._template = template
            # Trailers would be added to the headers that the application gets to see.
            self.headers = []
            self.phase = ANSWER if unfinished(self.cycle) else WAITING
        else:
            super().on_headers_complete()
            super().on_body(raw)
            super().on_message_complete()
        self._piece = b""

    def _gathered(self) -> bytes:
        """What was kept back of a body."""
        self._gathering = False
        raw = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body = []
        return raw

    def shutdown(self) -> None:
        if self._gathering:
            # To the server there is nothing yet that it would have to wait for.
            raw = self._gathered()
            super().on_headers_complete()
            super().on_body(raw)
        super().shutdown()

    def is_receiving(self) -> bool:
        return self._gathering or super().is_receiving()

    def is_answering(self) -> bool:
        return self._asking is not None or super().is_answering()

    def _client_of(self, raw: bytes, headers: Mapping[str, str]) -> Seat | None:
        gateway = self._gateway()
        lane = None if gateway is None else gateway.lane
        if gateway is None or lane is None or not lane.open:
            return None
        return Seat(self, gateway, lane, raw, headers)

    def _gateway(self) -> Gateway | None:
        # Tests serve other applications with this class too.
        return getattr(getattr(self.app, "state", None), "gateway", None)

    def _takes(self, client: Seat) -> bool:
        if client.pressed:
            self._seat(client, client.gateway)
            client.wait()
            return True
        admitted = client.admitted()
        if admitted is None:
            return False
        self._seat(client, client.gateway)
        client.begin(admitted)
        return True

    def _seat(self, client: Seat | Quick, gateway: Gateway) -> None:
        self._asking = client
        # The application's queue looks here for whether it may go on.
        self.cycle = client  # type: ignore[assignment]
        gateway.uses.begin()

    def ended(self, client: Seat | Quick) -> None:
        """The client's answer is complete."""
        self._asking = None
        client.gateway.uses.end()
        if not client.keep_alive:
            self.flush()
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

    def flush(self) -> None:
        self.outbox.flush()

    def to_application(self, client: Seat, begun: Begun | None, *, committed: bool = False) -> None:
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

    def _scope_of(self, client: Seat, begun: Begun | None) -> Any:
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
        if begun is not None:
            scope[GATEWAY] = client.gateway
            scope[BEGUN], scope[KEY_IN_SCOPE] = begun, begun.ask.key
            scope["state"]["request_id"] = begun.trip.request_id
        return scope

    def connection_lost(self, exc: Exception | None) -> None:
        client, self._asking = self._client(), None
        if client is not None:
            client.leave()
        super().connection_lost(exc)
        if isinstance(self.cycle, Seat | Quick):
            # It refers to us: together we would wait for the garbage collector.
            self.cycle = None

    def pause_writing(self) -> None:
        super().pause_writing()
        if (client := self._client()) is not None:
            client.pause(paused=True)

    def resume_writing(self) -> None:
        super().resume_writing()
        if (client := self._client()) is not None:
            client.pause(paused=False)

    def _client(self) -> Seat | None:
        """Who is being answered; a quick request is none any more then."""
        if isinstance(self._asking, Quick):
            self._asking.unfold()
        client = self._asking
        return client if isinstance(client, Seat) else None
