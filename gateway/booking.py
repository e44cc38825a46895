"""One request's entries in the ledger: opened before the call, closed exactly once."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import anyio

from experts.cards import NANO_PER_USD, ExpertCard
from experts.errors import ExpertCallError
from experts.messages import Usage
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
)
from gateway.ledger.store import Ledger
from gateway.settings.ledger import LedgerSettings
from gateway.telemetry.trip import UNSEEN, Trip
from routers.records import Decision

NOT_SENT = "not_sent"
UNBILLED = ("failed", NOT_SENT)
"""Ends of an attempt that cost nothing unless tokens were counted."""


@dataclass(slots=True)
class Attempt:
    """One upstream call while it runs."""

    attempt_id: str
    card: ExpertCard
    parent_id: str | None
    started: float = field(default_factory=time.monotonic)
    first_token_s: float | None = None
    usage: Usage | None = None
    finish_reason: str | None = None
    has_children: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    """What the call must carry, so that traces go on behind it."""

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.started

    def cost_nanousd(self) -> int | None:
        """Own cost; None is unknown. A composition's cost is that of its children."""
        if self.has_children:
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
        self._started = time.monotonic()
        self._rows: list[Row] = [self._request_row()]
        self._rows.append(decision_row(self.decision_id, self.request_id, now(), decision))
        self._closed = False

    @property
    def keeps_text(self) -> bool:
        """Whether anything but a digest is kept of what is said."""
        return self._text_mode in ("full", "redacted")

    @property
    def cost_usd(self) -> float:
        return self.cost_nanousd / NANO_PER_USD

    @property
    def latency_s(self) -> float:
        return time.monotonic() - self._started

    async def begin(self, card: ExpertCard, parent: Attempt | None = None) -> Attempt:
        """Record an attempt (and, with the first one, the decision) before it is made."""
        attempt, rows = self._announced(card, parent)
        asked = time.monotonic()
        try:
            await self._ledger.commit(rows)
        except anyio.get_cancelled_exc_class():
            # The client left while the disk was waited for: what was announced is not made.
            self.end(attempt, NOT_SENT)
            raise
        self._began(attempt, asked)
        return attempt

    def begin_then(
        self, card: ExpertCard, then: Callable[[Attempt, LedgerError | None], None]
    ) -> None:
        """`begin` for who can't wait: `then` is called when the attempt may be made, or why not."""
        attempt, rows = self._announced(card, None)
        asked = time.monotonic()

        def written(error: LedgerError | None) -> None:
            if error is None:
                self._began(attempt, asked)
            then(attempt, error)

        if not self._ledger.commit_then(rows, written):
            written(None)

    def _announced(self, card: ExpertCard, parent: Attempt | None) -> tuple[Attempt, list[Row]]:
        """A new attempt, and the rows that have to be on record before it is made."""
        attempt = Attempt(new_id("att"), card, parent.attempt_id if parent else None)
        if parent:
            parent.has_children = True
        prices = [price_row(card.expert_id, card.prices)] if card.prices else []
        values = {
            "attempt_id": attempt.attempt_id,
            "decision_id": self.decision_id,
            "parent_id": attempt.parent_id,
            "ordinal": self.attempts,
            "at": now(),
            "expert_id": card.expert_id,
            "price_id": prices[0].values["price_id"] if prices else None,
        }
        self.attempts += 1
        opening, self._rows = self._rows, []
        return attempt, [*opening, *prices, Row(tables.attempt, values)]

    def _began(self, attempt: Attempt, asked: float) -> None:
        attempt.started = time.monotonic()
        self.trip.recorded(attempt.started - asked)
        self.trip.attempt_began(attempt)

    def end(
        self,
        attempt: Attempt,
        status: str,
        error: ExpertCallError | None = None,
        *,
        last: bool = False,
    ) -> None:
        """Record how an attempt ended and what it cost; never waits.

        Args:
            attempt: What ended.
            status: `ok`, `failed`, `cancelled` or `not_sent`.
            error: Why it failed.
            last: `close` follows at once, and takes this along.
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
        if not last:
            rows, self._rows = self._rows, []
            self._ledger.append(rows)
        self.trip.attempt_ended(attempt, status, error.kind if error else None, cost)

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
        }
        rows: Sequence[Row] = [*self._rows, Row(tables.request_result, values), *more]
        self._ledger.append(rows)
        self.trip.end(status, error_kind, answered_by, self, answer)

    def _request_row(self) -> Row:
        ask, wishes = self._ask, self._ask.wishes
        text = ask.request.text
        values = {
            "request_id": self.request_id,
            "at": now(),
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
