"""What clients say without saying it: the same question again, or again to somebody else."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence

from gateway.ids import now
from gateway.ledger.rows import Row
from gateway.outcomes.ended import Ended, outcome_row

REGENERATED, SWITCHED = "regenerated", "switched"
"""Objectives of their own, on which only zeros are booked: they say nothing of who was content."""
SOURCE = "implicit"
_MOST_SESSIONS = 10_000


class Implicit:
    """Remembers the last question of each session, as a digest, and who answered it.

    A key's session that puts the very same conversation once more was not content: the earlier
    decision gets a 0 under `regenerated` if the request names the same model, under `switched` if
    it names another. Lives on the event loop; what is longest unused is forgotten first.

    Args:
        append: Takes rows for the ledger; never blocks.
        within_s: Later questions are taken for new ones.
    """

    def __init__(self, append: Callable[[Sequence[Row]], None], within_s: float) -> None:
        self._append = append
        self._within_s = within_s
        self._last: OrderedDict[tuple[str, str], tuple[bytes, str, str, float]] = OrderedDict()

    def hear(self, ended: Ended) -> None:
        """Compare a finished request with the one before it in its session."""
        ask = ended.ask
        if ask.wishes.session is None or ask.request.task != "chat":
            return
        session, at = (ask.key.name, ask.wishes.session), now()
        asked = _digest(ended)
        before = self._last.pop(session, None)
        self._last[session] = (asked, ended.decision_id, ask.model, at)
        if len(self._last) > _MOST_SESSIONS:
            self._last.popitem(last=False)
        if before is None:
            return
        digest, decision_id, model, then = before
        if digest == asked and at - then <= self._within_s:
            objective = REGENERATED if model == ask.model else SWITCHED
            self._append([outcome_row(decision_id, objective, 0.0, SOURCE)])


def _digest(ended: Ended) -> bytes:
    digest = hashlib.sha256()
    for message in ended.ask.request.messages:
        for part in (message.role, repr(message.content), repr(message.fields)):
            said = part.encode("utf-8", "surrogatepass")
            digest.update(len(said).to_bytes(8, "big") + said)
    return digest.digest()
