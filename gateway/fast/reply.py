"""What a client gets of an answer on the fast path, and in which bytes."""

from __future__ import annotations

from typing import Protocol

import orjson

from experts.http.expert import HttpExpert
from experts.messages import ChatRequest, Collector, Event, Usage
from experts.params import dropped_params
from experts.wire.reading import StreamReader
from gateway.access.passes import FreePass
from gateway.api.answering import listed
from gateway.api.chat import CHAT
from gateway.api.chat_in import wants_usage
from gateway.api.front import Envelope
from gateway.begun import Begun
from gateway.booking import Booking
from gateway.errors import ApiError
from gateway.fast import heads
from gateway.fast.lane import Admitted, Lane
from gateway.fast.rendered import RenderedStream
from gateway.fast.streams import RawStream, Stream
from gateway.telemetry.request_id import HEADER
from gateway.telemetry.trip import Trip
from routers.records import Decision


class Client(Protocol):
    """The connection that a request came over."""

    def send(self, data: bytes) -> None:
        """Write a part of the answer."""
        ...

    def default_headers(self) -> list[tuple[bytes, bytes]]:
        """What every answer of the server says."""
        ...

    def answered(self, *, last: bool = False) -> None:
        """The answer is complete; `last` if the connection is to be closed behind it."""
        ...

    def abort(self) -> None:
        """Close the connection, whatever was sent."""
        ...

    def go_on(self, begun: Begun, *, committed: bool) -> None:
        """Let the ordinary path go on; `committed` if the client has a part of the answer."""
        ...


class Reply:
    """Writes one answer to its client.

    Attributes:
        committed: The client has a part of it.
    """

    __slots__ = ("_admitted", "_booking", "_client", "_decision", "_lane", "committed")

    def __init__(
        self, lane: Lane, client: Client, admitted: Admitted, decision: Decision, booking: Booking
    ) -> None:
        self._lane = lane
        self._client = client
        self._admitted = admitted
        self._decision = decision
        self._booking = booking
        self.committed = False

    def stream(self, expert: HttpExpert, request: ChatRequest, max_event_bytes: int) -> Stream:
        """Reads a streamed answer, and writes it for this client."""
        ask, read = self._admitted.ask, expert.dialect.reader
        envelope, choices = self._envelope(), request.choices
        if choices == 1 and not request.needs_tools:
            include_usage = wants_usage(ask.body)
            return RawStream(
                envelope, lambda: read(request), max_event_bytes, include_usage=include_usage
            )
        reader = StreamReader(envelope.expert, read(request), choices, max_event_bytes)
        return RenderedStream(reader, CHAT.writer(ask, envelope))

    def _envelope(self) -> Envelope:
        return Envelope(self._booking.decision_id, self._decision.expert)

    def piece(self, data: bytes) -> None:
        """A piece of a streamed answer, never empty."""
        chunk = heads.chunk(data)
        if not self.committed:
            self.committed = True
            chunk = heads.stream_head(self._client.default_headers(), self._lines()) + chunk
        self._client.send(chunk)

    def end(self, data: bytes) -> None:
        """The last piece of a streamed answer."""
        self.piece(data)
        self._client.send(heads.LAST_CHUNK)
        self._client.answered()

    def whole(self, body: bytes) -> None:
        """An answer that is not streamed."""
        booking = self._booking
        cost = f"{booking.cost_usd:.9f}" if booking.cost_complete else "unknown"
        lines = f"x-pointsman-cost-usd: {cost}\r\n{self._lines()}"
        self._client.send(heads.whole_answer(self._client.default_headers(), lines, body))
        self._client.answered()

    def rendered(self, events: list[Event], usage: Usage) -> None:
        """An answer that came as a whole and can't go as it is."""
        ask = self._admitted.ask
        if ask.request.stream:
            writer = CHAT.writer(ask, self._envelope())
            pieces = [piece for event in events for piece in writer.write(event)]
            cost_usd = self._booking.cost_usd if self._booking.cost_complete else None
            self.end(b"".join((*pieces, *writer.end(usage, cost_usd))))
            return
        collected = Collector()
        for event in events:
            collected.add(event)
        self.whole(CHAT.whole(ask, self._envelope(), collected.completion(), usage))

    def broken_off(self, failure: ApiError) -> None:
        """The answer ends here: an error event, and nothing that ends it well."""
        self.end(b"data: " + orjson.dumps(failure.body()) + b"\n\n")

    def _lines(self) -> str:
        ask, key, trip, passed = self._admitted
        booking, decision = self._booking, self._decision
        # All of these are ours: ids, and names that were checked when they were configured.
        text = (
            f"x-pointsman-decision-id: {booking.decision_id}\r\n"
            f"x-pointsman-expert: {decision.expert}\r\n"
            f"x-pointsman-router: {decision.router}\r\n"
            f"x-pointsman-attempts: {booking.attempts}\r\n"
            f"server-timing: {trip.server_timing()}\r\n"
            f"{HEADER}: {trip.request_id}\r\n"
        )
        more: dict[str, str] = {}
        if not isinstance(passed, FreePass):
            more = {**self._lane.admission.headers(key), **passed.headers()}
        if dropped := dropped_params(ask.request, self._lane.pool.card(decision.expert)):
            more["x-pointsman-dropped-params"] = listed(dropped)
        return text + heads.lines(more) if more else text


def refused(client: Client, failure: ApiError, trip: Trip) -> None:
    """An error in place of an answer, and nothing more over this connection."""
    headers = {**failure.headers, "server-timing": trip.server_timing(), HEADER: trip.request_id}
    defaults, body = client.default_headers(), CHAT.error(failure, trip.request_id)
    client.send(heads.error(defaults, failure.status, heads.lines(headers), body))
    client.answered(last=True)
