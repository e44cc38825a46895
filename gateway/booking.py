"""One request's entries in the ledger: opened before the call, closed exactly once."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import anyio

from experts.cards import NANO_PER_USD, ExpertCard
from experts.errors import ExpertCallError
from experts.messages import Json, Usage
from gateway.ask import Ask
from gateway.errors import LedgerError
from gateway.ids import new_id, now
from gateway.ledger import tables
from gateway.ledger.rows import (
    Row,
    decision_row,
    kept_text,
    price_row,
    prompt_digest,
    token_columns,
    trace_rows,
)
from gateway.ledger.store import Ledger
from gateway.outcomes.ended import Ended, Hearing
from gateway.settings.ledger import LedgerSettings
from gateway.telemetry.trip import NO_HEADERS, UNSEEN, Trip
from routers.records import Decision

NOT_SENT = "not_sent"
_READABLE = ("full", "redacted")
UNBILLED = ("failed", NOT_SENT)
"""Ends of an attempt that cost nothing unless tokens were counted."""


class Attempt:
    """One upstream call while it runs.

    Args:
        attempt_id: What the ledger knows it by.
        card: Whom it asks.
        parent_id: The call of the composition that makes it, if one does.
        started: Seconds on `time.monotonic`; until it is on record, when that was asked for.

    Attributes:
        first_token_s: From its start until the answer began; None while it has not.
        begun: Whether it goes on: it was made and has not ended.
        headers: What the call must carry, so that traces go on behind it.
        trace: What a composition leaves of its way to the answer, see `experts.base.Call`.
    """

    __slots__ = (
        "attempt_id", "begun", "card", "finish_reason", "first_token_s", "has_children", "headers",
        "parent_id", "started", "trace", "usage",
    )  # fmt: skip

    def __init__(
        self, attempt_id: str, card: ExpertCard, parent_id: str | None, started: float
    ) -> None:
        self.attempt_id = attempt_id
        self.card = card
        self.parent_id = parent_id
        self.started = started
        self.first_token_s: float | None = None
        self.usage: Usage | None = None
        self.finish_reason: str | None = None
        self.has_children = self.begun = False
        self.headers = NO_HEADERS
        self.trace: Sequence[Json] = ()

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.started

    def cost_nanousd(self) -> int | None:
        """Own cost; None is unknown. A composition's cost is that of its children."""
        if self.has_children or self.card.composed:
            return 0
        if self.card.prices is None or self.usage is None:
            return None
        return self.card.prices.cost_nanousd(self.usage)


class Booking:
    """Books one request: request, decision, attempts with results, request result.

    The sum of the attempts' costs is the request's cost by construction; an unknown one is left
    out and said (`cost_complete`).

    Attributes:
        usage: Tokens of the answer that was delivered, once it is complete.
    """

    def __init__(
        self,
        ledger: Ledger,
        ask: Ask,
        decision: Decision,
        text_mode: str,
        trip: Trip | None = None,
        hearing: Hearing | None = None,
    ) -> None:
        self.trip = trip or UNSEEN.begin(ask.wire, {})
        self.request_id = new_id("req")
        self.decision_id = new_id("dec")
        self.attempts = 0
        self.cost_nanousd = 0
        self.cost_complete = True
        self.usage: Usage | None = None
        self._ledger = ledger
        self._ask = ask
        self._decision = decision
        self._text_mode = text_mode
        self._hearing = hearing
        self._started = time.monotonic()
        at = now()
        self._rows: list[Row] = [
            self._request_row(at),
            decision_row(self.decision_id, self.request_id, at, decision),
        ]
        self._closed = False

    @property
    def keeps_text(self) -> bool:
        """Whether somebody wants to know what is said: the ledger, or who scores it."""
        return self._hearing is not None or self._text_mode in _READABLE

    @property
    def cost_usd(self) -> float:
        return self.cost_nanousd / NANO_PER_USD

    @property
    def latency_s(self) -> float:
        return time.monotonic() - self._started

    def announced(self, mark: str, began: float) -> None:
        """Its first attempt is on record already, under ids that end with `mark`.

        Args:
            mark: See `gateway.ledger.briefs.Opening`.
            began: When the request came, on `time.monotonic`.
        """
        self.request_id, self.decision_id = f"req-{mark}", f"dec-{mark}"
        self._started = began
        self._rows = []
        self.attempts = 1

    async def begin(self, card: ExpertCard, parent: Attempt | None = None) -> Attempt:
        """Record an attempt (and, with the first one, the decision) before it is made."""
        attempt, rows = self._announced(card, parent)
        try:
            await self._ledger.commit(rows)
        except anyio.get_cancelled_exc_class():
            # The client left while the disk was waited for: what was announced is not made.
            self.end(attempt, NOT_SENT)
            raise
        self.began(attempt)
        return attempt

    def begin_then(
        self, card: ExpertCard, then: Callable[[Attempt, LedgerError | None], None]
    ) -> None:
        """`begin` for who can't wait: `then` is called when the attempt may be made, or why not."""
        attempt, rows = self._announced(card, None)

        def written(error: LedgerError | None) -> None:
            if error is None:
                self.began(attempt)
            then(attempt, error)

        if not self._ledger.commit_then(rows, written):
            written(None)

    def _announced(self, card: ExpertCard, parent: Attempt | None) -> tuple[Attempt, list[Row]]:
        """A new attempt, and the rows that have to be on record before it is made."""
        parent_id = price_id = None
        if parent:
            parent.has_children, parent_id = True, parent.attempt_id
        attempt = Attempt(new_id("att"), card, parent_id, time.monotonic())
        rows, self._rows = self._rows, []
        # What a composition is expected to cost is no price that anything is booked at.
        if card.prices and not card.composed:
            price = price_row(card.expert_id, card.prices)
            rows.append(price)
            price_id = price.values["price_id"]
        values = {
            "attempt_id": attempt.attempt_id,
            "decision_id": self.decision_id,
            "parent_id": parent_id,
            "ordinal": self.attempts,
            "at": now(),
            "expert_id": card.expert_id,
            "price_id": price_id,
        }
        self.attempts += 1
        rows.append(Row(tables.attempt, values))
        return attempt, rows

    def began(self, attempt: Attempt) -> None:
        """It is on record: its call is made now."""
        asked, attempt.started = attempt.started, time.monotonic()
        self.trip.recorded(attempt.started - asked)
        self.trip.attempt_began(attempt)

    def end(
        self,
        attempt: Attempt,
        status: str,
        error: ExpertCallError | None = None,
        *,
        last: bool = False,
    ) -> int | None:
        """Record how an attempt ended and what it cost; never waits.

        Args:
            attempt: What ended.
            status: `ok`, `failed`, `cancelled` or `not_sent`.
            error: Why it failed.
            last: `close` follows at once, and takes this along.

        Returns:
            What it cost, in nano-dollars; None is unknown.
        """
        cost = attempt.cost_nanousd()
        if cost is None:
            # A call that was not made, or failed before a token was counted, is billed by nobody.
            self.cost_complete &= status in UNBILLED and attempt.usage is None
        self.cost_nanousd += cost or 0
        # Cancelled by a guard, the client has a part of it; a loser counts for nothing.
        delivered = status == "ok" or (status == "cancelled" and self.usage is None)
        if delivered and attempt.parent_id is None:
            self.usage = attempt.usage
        values = {
            "attempt_id": attempt.attempt_id,
            "at": now(),
            "status": status,
            "error_kind": error and error.kind,
            "error": error and self.trip.redacted(str(error)),
            "http_status": error and error.status,
            **token_columns(attempt.usage),
            "cost_nanousd": cost,
            "wasted": status != "ok",
            "first_token_s": attempt.first_token_s,
            "latency_s": attempt.elapsed_s,
            "finish_reason": attempt.finish_reason,
        }
        self._rows.append(Row(tables.attempt_result, values))
        if attempt.trace:
            self._rows += trace_rows(attempt.attempt_id, attempt.trace, now(), self._text_mode)
        if not last:
            rows, self._rows = self._rows, []
            self._ledger.append(rows)
        self.trip.attempt_ended(attempt, status, error.kind if error else None, cost)
        return cost

    def close(
        self,
        status: int,
        error_kind: str | None,
        answered_by: str | None,
        answer: str,
        more: Sequence[Row] = (),
    ) -> None:
        """Record how the request ended, and `more` with it. Later calls change nothing."""
        if self._closed:
            return
        self._closed = True
        ended = self._ended(answer) if status == 200 else None
        values = {
            "request_id": self.request_id,
            "at": now(),
            "status": status,
            "error_kind": error_kind and self.trip.redacted(error_kind),
            "answered_by": answered_by,
            "cost_nanousd": self.cost_nanousd,
            "cost_complete": self.cost_complete,
            "latency_s": self.latency_s,
            "answer": kept_text(answer, self._text_mode),
            "shadow": ended and self._offered(ended),
        }
        self._ledger.append([*self._rows, Row(tables.request_result, values), *more])
        if self._decision.settle is not None and self.cost_complete:
            self._decision.settle(self.cost_usd)
        self.trip.end(status, error_kind, answered_by, self, answer)
        if ended is not None and self._hearing is not None:
            self._hearing.hear(ended)

    def _ended(self, answer: str) -> Ended | None:
        if self._hearing is None:
            return None
        return Ended(self._ask, self._decision, self.decision_id, answer, self.attempts > 0)

    def _offered(self, ended: Ended) -> Mapping[str, float] | None:
        """Who else may be asked; nobody, where the prompt is not kept to learn from."""
        offer = self._hearing and self._hearing.offer
        return offer(ended) if offer and self._text_mode in _READABLE else None

    def _request_row(self, at: float) -> Row:
        ask, wishes = self._ask, self._ask.wishes
        text = ask.request.text
        values = {
            "request_id": self.request_id,
            "at": at,
            "key_name": ask.key.name,
            "project": ask.key.project,
            "wire": ask.wire,
            "model_asked": ask.model,
            "stream": ask.request.stream,
            "session": wishes.session,
            "tags": wishes.tags,
            "prompt_sha256": prompt_digest(text, self._text_mode),
            "prompt": kept_text(text, self._text_mode),
        }
        return Row(tables.request, values)


def kept_of(settings: LedgerSettings, ask: Ask) -> str:
    """What the ledger keeps of the texts of one request."""
    return settings.keeps(ask.wire, ask.wishes.keep, admin=ask.key.admin)
