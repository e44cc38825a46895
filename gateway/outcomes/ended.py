"""An answer that has ended well, as those who score it see it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from gateway.ask import Ask
from gateway.ids import new_id, now
from gateway.ledger import tables
from gateway.ledger.rows import Row
from routers.records import Decision


class Ended(NamedTuple):
    """One delivered answer. Its texts are in memory only, whatever the ledger keeps.

    Attributes:
        ask: What was asked.
        decision: Who was to answer, and why.
        decision_id: What the ledger knows it by.
        text: The answer.
        fresh: Whether an expert was asked for it; it was kept in the cache otherwise.
    """

    ask: Ask
    decision: Decision
    decision_id: str
    text: str
    fresh: bool


Hear = Callable[[Ended], None]
"""Hears of an answer when the books are closed. Called on the event loop, so it must not wait."""


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
