"""One request's place on its client's connection: what writes to it, and waits its turn."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gateway.begun import Begun
from gateway.errors import LedgerError
from gateway.fast.exchange import Exchange
from gateway.fast.lane import Admitted, Lane
from gateway.fast.nobody import NOBODY_WAITS
from gateway.state import Gateway

if TYPE_CHECKING:
    from gateway.fast.protocol import FastProtocol

_log = logging.getLogger(__name__)
_BEHIND_S = 1.0
"""How long a request waits here for a ledger that is behind."""


class Seat:
    """One request's client on its connection: the exchange's client, and a cycle for the queue.

    Attributes:
        response_complete, disconnected, keep_alive, message_event: As the server's own cycles.
        scope: What the server's parser made of the head; None if that was not asked.
        raw_headers: The headers then.
        exchange: What answers it, once that has begun.
    """

    __slots__ = (
        "_headers", "_lane", "_patient_until", "_protocol", "disconnected", "exchange", "gateway",
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
        self.exchange: Exchange | None = None
        self.gateway = gateway
        self.raw = raw
        self.scope: Any = None
        self.raw_headers: Sequence[tuple[bytes, bytes]] = ()
        self.keep_alive = True
        self.response_complete = self.disconnected = False
        self.message_event = NOBODY_WAITS

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
        deadline = self._protocol.loop.time() + seconds
        exchange = self.exchange = Exchange(self._lane, self, admitted, deadline)
        try:
            exchange.begin()
        except Exception:  # noqa: BLE001 - see above
            exchange.fault()

    def wait(self) -> None:
        """The ledger is behind: come back when what it has is written, or else in a second."""
        loop = self._protocol.loop
        self._patient_until = loop.time() + _BEHIND_S
        self._lane.wheel.add(self, loop)
        self._lane.ledger.relieved_then(self._written)

    def _written(self, error: LedgerError | None) -> None:
        if not self._patient_until or self.disconnected:
            return
        if self._lane.pressed and error is None:
            self._lane.ledger.relieved_then(self._written)
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
        self._protocol.outbox.send(self._protocol.transport, data)

    def default_headers(self) -> list[tuple[bytes, bytes]]:
        headers = self._protocol.server_state.default_headers
        return headers if self.keep_alive else [*headers, (b"connection", b"close")]

    def answered(self, *, last: bool = False) -> None:
        self._part()
        self.response_complete = True
        self.keep_alive &= not last
        self._protocol.ended(self)

    def abort(self) -> None:
        self._protocol.transport.abort()

    def go_on(self, begun: Begun, *, committed: bool) -> None:
        self._part()
        self._protocol.to_application(self, begun, committed=committed)

    def pause(self, *, paused: bool) -> None:
        """The client reads more slowly than it is written to, or has caught up."""
        if self.exchange is not None:
            self.exchange.pause(paused=paused)

    def leave(self) -> None:
        """The client is gone."""
        self.disconnected = True
        if self.exchange is None:
            self._stop_waiting()
        else:
            self.exchange.leave()
            self._part()
        self.gateway.uses.end()

    def _part(self) -> None:
        """The exchange is over: what refers to each other would wait for the garbage collector."""
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.release()
