"""What was asked, one prompt of each conversation, in its order."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Engine, select

from gateway.ledger.database import reader
from gateway.ledger.tables import decision, request


class FirstPrompt(NamedTuple):
    """The first request of a conversation.

    Attributes:
        at: When it was decided, seconds since 1970.
        decision_id: By which it is known.
        text: What was asked.
    """

    at: float
    decision_id: str
    text: str


def first_prompts(engine: Engine, router: str, since: float, most: int) -> list[FirstPrompt]:
    """Prompts that `router` decided since a time, oldest first, as far as their texts are kept.

    Only the first of each session: what follows in a conversation follows from it.

    Args:
        engine: The ledger.
        router: Its name; all of its versions count.
        since: Seconds since 1970.
        most: Of more requests, the oldest so many are read.
    """
    query = (
        select(decision.c.at, decision.c.decision_id, request.c.prompt, request.c.session)
        .join(request, request.c.request_id == decision.c.request_id)
        .where(decision.c.router == router, decision.c.at >= since, request.c.prompt.is_not(None))
        .order_by(decision.c.at, decision.c.decision_id)
        .limit(most)
    )
    found: dict[str, FirstPrompt] = {}
    with reader(engine).connect() as connection:
        for at, decision_id, text, session in connection.execute(query):
            found.setdefault(session or decision_id, FirstPrompt(at, decision_id, text))
    return list(found.values())
