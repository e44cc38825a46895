"""An answer that has ended well, as those who score it see it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from gateway.ask import Ask
from gateway.ids import new_id, now
from gateway.ledger import tables
from gateway.ledger.rows import Row
from routers.eligible import Constraints
from routers.records import Decision


class Ended(NamedTuple):
    """One answer, delivered or a shadow's. Its texts are in memory only, whatever is kept.

    Attributes:
        ask: What was asked.
        decision: Who was to answer, and why.
        decision_id: What the ledger knows it by.
        text: The answer.
        fresh: Whether an expert was asked for it; it was kept in the cache otherwise.
        shadow_id: The shadow call that gave it; None: it was delivered.
        served: What was delivered instead of it, where a shadow call gave it.
    """

    ask: Ask
    decision: Decision
    decision_id: str
    text: str
    fresh: bool
    shadow_id: str | None = None
    served: str | None = None

    @property
    def scored(self) -> Scored:
        """What is scored."""
        return Scored(self.decision_id, self.shadow_id)


class Scored(NamedTuple):
    """What a score is about: a delivered answer, or one that a shadow call gave."""

    decision_id: str
    shadow_id: str | None = None

    def row(self, objective: str, score: float, source: str, comment: str | None = None) -> Row:
        """A score of ours, of now."""
        if self.shadow_id is None:
            return outcome_row(self.decision_id, objective, score, source, comment)
        values = outcome_row("", objective, score, source, comment).values
        kept = {name: value for name, value in values.items() if name != "decision_id"}
        return Row(tables.shadow_outcome, {**kept, "call_id": self.shadow_id})


Limits = Callable[[Ask, Decision], Constraints]
"""What the decision about a request was bound by, and so is whoever gets to see it afterwards."""

Hear = Callable[[Ended], None]
"""Hears of an answer when the books are closed. Called on the event loop, so it must not wait."""


class Hearing(NamedTuple):
    """Who is told of one answer.

    Attributes:
        hear: When the books are closed.
        offer: Just before, of an answer whose request is kept: says with which chance which other
            expert is asked the same; None: nobody is.
    """

    hear: Hear
    offer: Callable[[Ended], Mapping[str, float] | None] | None = None


def outcome_row(
    decision_id: str, objective: str, score: float, source: str, comment: str | None = None
) -> Row:
    """A score of ours, of now."""
    values = {
        "outcome_id": new_id("out"),
        "decision_id": decision_id,
        "at": now(),
        "objective": objective,
        "score": score,
        "source": source,
        "comment": comment and comment[:2_000],
    }
    return Row(tables.outcome, values)
