"""One chat request on the fast path, from its decision until its books are closed."""

from __future__ import annotations

import asyncio
import logging
import math
from functools import partial
from typing import NamedTuple

from experts.errors import ExpertCallError, ExpertRejectedError
from experts.http.expert import HttpExpert
from experts.http.plain_connection import PlainCall
from gateway.begun import CLIENT_LEFT, Begun
from gateway.booking import NOT_SENT, Attempt, Booking, kept_of
from gateway.errors import ApiError, LedgerError, api_error
from gateway.execution.delivered import Delivered
from gateway.execution.silence import Patience
from gateway.fast.clock import Clock
from gateway.fast.hold import Hold
from gateway.fast.lane import Admitted, Lane
from gateway.fast.relay import Relay
from gateway.fast.reply import Client, Reply, refused
from routers.records import Decision

_log = logging.getLogger(__name__)
_RECORD = "record"
"""What is waited for before anybody is asked."""


class _Asked(NamedTuple):
    """What there is from the moment that a call is certain to be made."""

    decision: Decision
    expert: HttpExpert
    hold: Hold
    booking: Booking
    reply: Reply


class Exchange:
    """Goes from callback to callback; whatever happens, its books are closed exactly once.

    What needs more than one call, or a wait for anything but the expert and the disk, is handed
    over to the ordinary path with all that was done for it.

    Args:
        lane: What all requests share.
        client: Who asks.
        admitted: What is asked.
        deadline: When all of it has to be over, on the event loop's clock.

    Attributes:
        over: The client has its answer, or left, or the ordinary path goes on.
    """

    __slots__ = (
        "_admitted", "_asked", "_attempt", "_client", "_clock", "_deadline", "_decision", "_lane",
        "_loop", "_relay", "_stopped", "over",
    )  # fmt: skip

    def __init__(self, lane: Lane, client: Client, admitted: Admitted, deadline: float) -> None:
        self._loop = loop = asyncio.get_running_loop()
        self.over = False
        self._lane = lane
        self._client = client
        self._admitted = admitted
        self._deadline = deadline
        self._clock = Clock(loop, deadline, self._late)
        self._decision: Decision | None = None
        self._asked: _Asked | None = None
        self._attempt: Attempt | None = None
        self._relay: Relay | None = None
        self._stopped = CLIENT_LEFT, "client_left"

    def begin(self) -> None:
        """Find out who answers, and ask."""
        self.enlist()
        self._lane.decider.submit(self._admitted.ask, self.decided)

    def enlist(self) -> None:
        """From now on it is under way."""
        self._lane.live.add(self)
        self._lane.wheel.add(self._clock, self._loop)

    def decided(self, found: Decision | Exception) -> None:
        """Go on with who was chosen."""
        try:
            if not self.over:
                self._prepare(found)
        except Exception:  # noqa: BLE001 - others wait behind this callback
            self.fault()

    def _prepare(self, found: Decision | Exception) -> None:
        if not isinstance(found, Decision):
            # The ordinary path comes to the same refusal, and says it.
            self._hand_over()
            return
        lane, (ask, _, trip, passed) = self._lane, self._admitted
        trip.decided(found)
        self._decision = found
        expert = lane.expert(found)
        hold = None if expert is None else Hold.take(lane.traffic, expert, ask, passed)
        if expert is None or hold is None:
            self._hand_over()
            return
        kept, hear = kept_of(lane.settings.ledger, ask), lane.afterwards.of(ask)
        booking = Booking(lane.ledger, ask, found, kept, trip, hear)
        reply = Reply(lane, self._client, self._admitted, found, booking)
        self._asked = asked = _Asked(found, expert, hold, booking, reply)
        self._clock.wait(_RECORD, math.inf)
        booking.begin_then(expert.card, partial(self._recorded, asked))

    def announced(
        self,
        decision: Decision,
        expert: HttpExpert,
        hold: Hold,
        booking: Booking,
        attempt: Attempt,
    ) -> None:
        """Somebody else has announced the call, and tells `recorded` or makes it."""
        self._decision, self._attempt = decision, attempt
        reply = Reply(self._lane, self._client, self._admitted, decision, booking)
        self._asked = _Asked(decision, expert, hold, booking, reply)
        self._clock.wait(_RECORD, math.inf)

    def recorded(self, error: LedgerError | None) -> None:
        """What somebody else announced is on record, or can't be."""
        assert self._asked is not None  # noqa: S101 - it was announced
        assert self._attempt is not None  # noqa: S101 - the same
        if error is None:
            self._asked.booking.began(self._attempt)
        self._recorded(self._asked, self._attempt, error)

    @property
    def relay(self) -> Relay:
        """Where an answer goes, once the call is made."""
        assert self._relay is not None  # noqa: S101 - it is made
        return self._relay

    def asking(self, call: PlainCall | None, patience: Patience, asked_at: float) -> None:
        """Somebody else has made the call; see `Relay.take_over`."""
        assert self._asked is not None  # noqa: S101 - it was announced
        assert self._attempt is not None  # noqa: S101 - the same
        self._relay = relay = self._relay_of(self._asked, self._attempt)
        relay.take_over(self._clock, patience, asked_at, call)

    def _recorded(self, asked: _Asked, attempt: Attempt, error: LedgerError | None) -> None:
        try:
            self._ask(asked, attempt, error)
        except Exception:  # noqa: BLE001 - others wait behind this callback
            self.fault()

    def _ask(self, asked: _Asked, attempt: Attempt, error: LedgerError | None) -> None:
        if self.over:
            # The client left while the disk was waited for: what was announced is not made.
            if error is None:
                asked.booking.end(attempt, NOT_SENT)
            self._close_books(*self._stopped)
            return
        if error is not None:
            asked.hold.abandon()
            self._hand_over(failure=error)
            return
        relay = self._relay = self._relay_of(asked, attempt)
        left_s = self._clock.left_s()
        patience = self._lane.patience(self._admitted.ask, asked.decision, left_s)
        try:
            relay.start(self._clock, patience)
        except ExpertRejectedError as refusal:
            relay.fail(refusal)

    def _relay_of(self, asked: _Asked, attempt: Attempt) -> Relay:
        return Relay(
            self._lane,
            asked.expert,
            asked.hold,
            asked.booking,
            attempt,
            asked.reply,
            self._done,
            self._failed,
            self.fault,
        )

    def check(self, now: float) -> None:
        """See `Clock.check`."""
        self._clock.check(now)

    def _late(self, what: str, waited_s: float) -> None:
        if self._relay is not None:
            self._relay.late(what, waited_s)
        elif what == _RECORD:
            failure = LedgerError("the ledger did not record the decision in time")
            self.shut_down(api_error(failure))

    def _done(self, status: int, kind: str | None, text: str) -> None:
        self._end()
        self._close_books(status, kind, text)

    def _failed(self, error: ExpertCallError, delivered: Delivered) -> None:
        self._hand_over(delivered, error)

    def fault(self) -> None:
        """Something of ours broke; call it where the exception is handled."""
        _log.exception("request %s failed", self._admitted.trip.request_id)
        if self.over:
            # Too late for words.
            self._client.abort()
        else:
            self._end()
            # What broke may be the reading of what was said.
            self._stop(api_error(RuntimeError()), readable=False)

    def leave(self) -> None:
        """The client is gone."""
        if not self.over:
            self._end()
            self._stop(None)

    def shut_down(self, failure: ApiError) -> None:
        """It can't go on, or the process ends; the client is told so."""
        if not self.over:
            self._end()
            self._stop(failure)

    def _stop(self, failure: ApiError | None, *, readable: bool = True) -> None:
        if failure is not None:
            self._stopped = failure.status, failure.code or failure.type
        asked = self._asked
        if self._relay is not None:
            self._relay.cancel(readable=readable)
        elif asked is not None:
            asked.hold.abandon()
        if self._relay is not None or asked is None:
            # Else the books are closed when the disk has answered.
            self._close_books(*self._stopped, text=None if readable else "")
        if failure is None:
            return
        if asked is not None and asked.reply.committed:
            asked.reply.broken_off(failure)
        else:
            refused(self._client, failure, self._admitted.trip)

    def release(self) -> None:
        """It is over, and its parts need not refer to it any more."""
        self._clock.release()
        self._relay = None

    def pause(self, *, paused: bool) -> None:
        """The client reads more slowly than the expert writes, or has caught up."""
        if self._relay is not None and not self.over:
            self._relay.pause(paused=paused)

    def _end(self) -> None:
        self.over = True
        self._lane.live.discard(self)
        self._lane.wheel.discard(self._clock)

    def _close_books(self, status: int, kind: str | None, text: str | None = None) -> None:
        self._admitted.passed.close()
        if self._asked is None:
            self._admitted.trip.end(status, kind)
            return
        relay, asked = self._relay, self._asked
        answered_by = asked.decision.expert if relay is not None and relay.begun else None
        said = text if text is not None or relay is None else relay.text()
        asked.booking.close(status, kind, answered_by, said or "")

    def _hand_over(
        self,
        delivered: Delivered | None = None,
        error: ExpertCallError | None = None,
        failure: LedgerError | None = None,
    ) -> None:
        self._end()
        asked, (ask, _, trip, passed) = self._asked, self._admitted
        begun = Begun(ask, trip, passed, self._deadline, self._decision, failure=failure)
        committed = asked is not None and asked.reply.committed
        if asked is not None:
            begun.booking = asked.booking
            if error is not None:
                begun.failures, begun.failed_at = [error], [asked.hold.lease.endpoint]
        if committed and self._relay is not None and self._relay.stream is not None:
            begun.delivered, begun.writer = delivered, self._relay.stream.writer()
        self._client.go_on(begun, committed=committed)
