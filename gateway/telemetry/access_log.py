"""One line per request. It holds ids, names, numbers: never what was asked or answered."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from experts.cards import NANO_PER_USD
from gateway.ledger.briefs import Closing

if TYPE_CHECKING:
    from gateway.booking import Booking
    from gateway.telemetry.trip import Trip

LOGGER = "pointsman.access"
_log = logging.getLogger(LOGGER)
_LONGEST_MODEL = 100


class AccessLog:
    """Writes up to so many lines a second and counts the others.

    Attributes:
        suppressed: Lines that were over the limit.
    """

    def __init__(self, per_s: int) -> None:
        self._per_s = per_s
        self._second = 0
        self._written = 0
        self.suppressed = 0

    def write(
        self,
        trip: Trip,
        status: int,
        error_kind: str | None,
        expert: str,
        booking: Booking | None,
    ) -> None:
        """Say how a request went, if its turn comes."""
        if self.on and self._may(int(trip.ended)):
            _log.handle(access_record(trip, status, error_kind, expert, booking))

    def write_brief(self, closing: Closing) -> None:
        """The same for a request of whose end there is only this, if its turn comes."""
        if self._may(int(time.monotonic())):
            _log.handle(_record(_brief_fields(closing)))

    @property
    def on(self) -> bool:
        """Whether anybody reads the lines."""
        return bool(self._per_s) and _log.isEnabledFor(logging.INFO)

    def _may(self, second: int) -> bool:
        if second != self._second:
            self._second, self._written = second, 0
        self._written += 1
        if self._written > self._per_s:
            self.suppressed += 1
            return False
        return True


def access_record(
    trip: Trip, status: int, error_kind: str | None, expert: str, booking: Booking | None
) -> logging.LogRecord:
    """How a request went, as a record."""
    return _record(_fields(trip, status, error_kind, expert, booking))


def _record(fields: dict[str, object]) -> logging.LogRecord:
    # Built by hand: finding out which line of code wrote it takes longer than the rest.
    record = logging.LogRecord(LOGGER, logging.INFO, "", 0, "request", None, None)
    record.fields = fields
    return record


def _brief_fields(closing: Closing) -> dict[str, object]:
    opening, cost = closing.opening, closing.cost_nanousd
    asked, mark = opening.asked, opening.mark
    fresh, cache_read, cache_write, output, reasoning = closing.tokens
    total_ms = round(closing.total_s * 1e3, 3)
    return {
        "request_id": f"req-{mark}",
        "wire": asked.wire,
        "status": 200,
        "error": None,
        "expert": asked.expert_id,
        "total_ms": total_ms,
        "upstream_ms": round(closing.call_s * 1e3, 3),
        "first_token_ms": total_ms,
        "key": asked.key_name,
        "model": asked.model[:_LONGEST_MODEL],
        "stream": asked.stream,
        "decision_id": f"dec-{mark}",
        "attempts": 1,
        "cost_usd": None if cost is None else cost / NANO_PER_USD,
        "input_tokens": fresh + cache_read + cache_write,
        "output_tokens": output + reasoning,
    }


def _fields(
    trip: Trip, status: int, error_kind: str | None, expert: str, booking: Booking | None
) -> dict[str, object]:
    fields: dict[str, object] = {
        "request_id": trip.request_id,
        "wire": trip.wire,
        "status": status,
        "error": error_kind,
        "expert": expert,
        "total_ms": round((trip.ended - trip.began) * 1e3, 3),
        "upstream_ms": round(trip.upstream_s * 1e3, 3),
    }
    if trip.first_token_s is not None:
        fields["first_token_ms"] = round(trip.first_token_s * 1e3, 3)
    if trip.ask is not None:
        fields["key"] = trip.ask.key.name
        fields["model"] = trip.ask.model[:_LONGEST_MODEL]
        fields["stream"] = trip.ask.request.stream
    if booking is not None:
        fields["decision_id"] = booking.decision_id
        fields["attempts"] = booking.attempts
        fields["cost_usd"] = booking.cost_usd if booking.cost_complete else None
        if booking.usage is not None:
            fields["input_tokens"] = booking.usage.prompt_tokens
            fields["output_tokens"] = booking.usage.completion_tokens
    return fields
