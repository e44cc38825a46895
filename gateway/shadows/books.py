"""The books of one shadow call, and of the calls that a composition makes in it."""

from __future__ import annotations

import time

import anyio

from experts.cards import ExpertCard
from experts.errors import ExpertCallError
from gateway.booking import NOT_SENT, Attempt
from gateway.ids import new_id, now
from gateway.ledger import tables
from gateway.ledger.rows import Row, price_row, token_columns
from gateway.ledger.store import Ledger
from gateway.telemetry.redaction import Redactor


class ShadowBooks:
    """Books calls under a decision, apart from what its request cost.

    Args:
        ledger: Where.
        decision_id: Of the request that is asked again.
        redactor: Takes secrets out of what experts say of failures.

    Attributes:
        root_id: The call to the expert that is compared; "" before it was made.
    """

    def __init__(self, ledger: Ledger, decision_id: str, redactor: Redactor) -> None:
        self._ledger = ledger
        self._decision_id = decision_id
        self._redactor = redactor
        self.root_id = ""

    async def begin(self, card: ExpertCard, parent: Attempt | None = None) -> Attempt:
        """Record a call before it is made."""
        parent_id = None
        if parent is not None:
            parent.has_children, parent_id = True, parent.attempt_id
        call = Attempt(new_id("shc"), card, parent_id, time.monotonic())
        self.root_id = self.root_id or call.attempt_id
        rows, price_id = [], None
        if card.prices:
            price = price_row(card.expert_id, card.prices)
            rows.append(price)
            price_id = price.values["price_id"]
        values = {
            "call_id": call.attempt_id,
            "root_id": self.root_id,
            "decision_id": self._decision_id,
            "at": now(),
            "expert_id": card.expert_id,
            "price_id": price_id,
        }
        try:
            await self._ledger.commit([*rows, Row(tables.shadow_call, values)])
        except anyio.get_cancelled_exc_class():
            # It gave way while the disk was waited for: what was announced is not made.
            self.end(call, NOT_SENT)
            raise
        call.started = time.monotonic()
        return call

    def end(
        self, attempt: Attempt, status: str, error: ExpertCallError | None = None
    ) -> int | None:
        """Record how a call ended and what it cost; never waits."""
        cost = attempt.cost_nanousd()
        values = {
            "call_id": attempt.attempt_id,
            "at": now(),
            "status": status,
            "error_kind": error and error.kind,
            "error": error and self._redactor.text(str(error)),
            "http_status": error and error.status,
            **token_columns(attempt.usage),
            "cost_nanousd": cost,
            "first_token_s": attempt.first_token_s,
            "latency_s": attempt.elapsed_s,
            "finish_reason": attempt.finish_reason,
        }
        self._ledger.append([Row(tables.shadow_result, values)])
        return cost
