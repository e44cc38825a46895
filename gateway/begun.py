"""A request that another path has begun, to be gone on with by the ordinary one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from experts.errors import ExpertCallError
from experts.http.replicas import Endpoint
from gateway.access.passes import Pass
from gateway.api.front import Writer
from gateway.ask import Ask
from gateway.booking import Booking
from gateway.errors import LedgerError
from gateway.execution.delivered import Delivered
from gateway.telemetry.trip import Trip
from routers.records import Decision

CLIENT_LEFT = 499
"""Status in the books for who did not wait for the answer."""
BEGUN = "pointsman.begun"
"""Where a request's scope holds what was begun."""


@dataclass(slots=True)
class Begun:
    """How far a request has come. What is there is not done again: a decision is drawn once.

    Attributes:
        ask: What is asked.
        trip: Who watches it.
        passed: The limits it was counted with.
        deadline: On the event loop's clock.
        decision: Who answers, if that is known.
        booking: Its books, if a call was made or announced.
        failures: Calls that failed, booked already.
        failed_at: The endpoints they failed at.
        delivered: What its client was sent of the last one's answer.
        writer: What wrote that, and goes on.
        failure: Why it can't go on at all.
    """

    ask: Ask
    trip: Trip
    passed: Pass
    deadline: float
    decision: Decision | None = None
    booking: Booking | None = None
    failures: Sequence[ExpertCallError] = ()
    failed_at: Sequence[Endpoint] = ()
    delivered: Delivered | None = None
    writer: Writer | None = None
    failure: LedgerError | None = None

    def left(self) -> None:
        """Nobody goes on with it; changes nothing if somebody did, to its end."""
        self.passed.close()
        if self.booking is not None:
            self.booking.close(CLIENT_LEFT, "client_left", None, "")
