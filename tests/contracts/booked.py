"""Requests that go through the books of a real ledger, for its contracts."""

from __future__ import annotations

import asyncio

import anyio

from experts.cards import ExpertCard, Prices
from experts.messages import ChatRequest, Message, Usage
from gateway.access.keys import Key
from gateway.ask import Ask
from gateway.booking import Booking
from gateway.ids import new_id, now
from gateway.ledger import tables
from gateway.ledger.rows import Row
from gateway.ledger.store import Ledger
from routers.eligible import Constraints
from routers.records import Decision, Preference
from routers.router import untrained_router

CHEAP = ExpertCard("cheap", prices=Prices(1, 2))
UNPRICED = ExpertCard("unpriced")


def a_decision(*cards: ExpertCard) -> Decision:
    router = untrained_router("default", 0.1)
    return router.decide(
        ChatRequest((Message("user", "Hi"),)),
        cards or (CHEAP, UNPRICED),
        preference=Preference(cost_weight=0.1),
        policy_name="balanced",
        constraints=Constraints(),
        unhealthy={},
        uniform=0.3,
    )


def an_ask(**tags: str) -> Ask:
    ask = Ask(ChatRequest((Message("user", "Hi"),)), "auto", "openai.chat", Key("k"))
    return Ask(
        ask.request, ask.model, ask.wire, ask.key, ask.wishes.model_copy(update={"tags": tags})
    )


def booked(ledger: Ledger, decision: Decision, usage: Usage | None = None, **tags: str) -> Booking:
    """One whole request through the books."""
    booking = Booking(ledger, an_ask(**tags), decision, "full")
    card = CHEAP if decision.expert == "cheap" else UNPRICED

    async def run() -> None:
        attempt = await booking.begin(card)
        attempt.usage = usage or Usage(input=10, output=5)
        booking.end(attempt, "ok")
        booking.close(200, None, card.expert_id, "Hello")
        await ledger.flush()

    asyncio.run(run())
    return booking


def score(ledger: Ledger, booking: Booking, value: float, source: str = "test") -> None:
    values = {
        "outcome_id": new_id("out"),
        "decision_id": booking.decision_id,
        "at": now(),
        "objective": "quality",
        "score": value,
        "source": source,
        "comment": None,
    }
    anyio.run(ledger.commit, [Row(tables.outcome, values)])


def booked_request_values() -> dict[str, object]:
    return {
        "request_id": "req-1",
        "at": now(),
        "key_name": "k",
        "wire": "openai.chat",
        "model_asked": "auto",
        "stream": False,
        "tags": {},
    }
