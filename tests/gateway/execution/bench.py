"""One execution over scripted experts, with its books kept in memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, cast

import anyio

from experts.base import Expert
from experts.cards import ExpertCard, Prices
from experts.errors import ExpertCallError, ExpertProtocolError, ExpertUnavailableError
from experts.fakes.scripted import ScriptedExpert, says
from experts.messages import ChatRequest, Event, Message, Usage
from gateway.access.keys import Key
from gateway.ask import Ask
from gateway.booking import Booking
from gateway.errors import ApiError, api_error
from gateway.execution.delivered import Delivered
from gateway.execution.execution import Execution
from gateway.execution.reserve import UNLIMITED, Reservation
from gateway.execution.traffic import Terms, Traffic
from gateway.ledger import tables
from gateway.ledger.rows import Row
from gateway.ledger.store import Ledger
from gateway.settings.root import Settings
from routers.eligible import Constraints
from routers.records import Decision, Preference
from routers.router import untrained_router

ANSWER = says("The capital is Lima.", Usage(input=10, output=6))
WHOLE = "The capital is Lima."


class Book:
    """What a ledger would have been given."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    async def commit(self, rows: Sequence[Row]) -> None:
        self.rows += rows

    def append(self, rows: Sequence[Row]) -> None:
        self.rows += rows

    def attempts(self) -> list[tuple[str, str, str | None]]:
        """Expert, status and error kind of each attempt, in the order in which they began."""
        begun = [row.values for row in self.rows if row.table is tables.attempt]
        ended = {
            row.values["attempt_id"]: row.values
            for row in self.rows
            if row.table is tables.attempt_result
        }
        results = [(attempt["expert_id"], ended[attempt["attempt_id"]]) for attempt in begun]
        return [(expert, end["status"], end["error_kind"]) for expert, end in results]


@dataclass
class Run:
    """How one execution went."""

    book: Book
    execution: Execution
    booking: Booking
    events: list[Event] = field(default_factory=list)
    error: Exception | None = None

    @property
    def text(self) -> str:
        return "".join(getattr(event, "text", "") for event in self.events)

    @property
    def causes(self) -> tuple[ExpertCallError, ...]:
        causes: tuple[ExpertCallError, ...] = getattr(self.error, "causes", ())
        return causes


class Bench:
    """Experts and what they share; the first one is what decisions choose.

    Args:
        experts: The pool, in order of falling utility.
        explicit: The client named the first.
        settings: Sections of the configuration.
    """

    def __init__(self, *experts: Expert, explicit: bool = False, **settings: Any) -> None:
        self.experts = {expert.card.expert_id: expert for expert in experts}
        entries = settings.pop("experts", None) or [
            {"id": name, "base_url": "http://127.0.0.1:9/v1"} for name in self.experts
        ]
        execution = {"backoff_s": 0.01, **settings.pop("execution", {})}
        self.settings = Settings.model_validate(
            {"experts": entries, "execution": execution, **settings}
        )
        self.traffic = Traffic.of(self.settings, seed=1)
        self.explicit = explicit
        self.reservation: Reservation = UNLIMITED
        self.fallbacks: tuple[str, ...] = ()

    async def run(
        self,
        stream: bool = True,
        failures: Sequence[ExpertCallError] = (),
        delivered: Delivered | None = None,
        session: str | None = None,
        **request: Any,
    ) -> Run:
        """Carry one request out to its end, an error included."""
        asked = ChatRequest((Message("user", "Hi"),), stream=stream, **request)
        book, decision = Book(), self._decision(asked)
        ask = Ask(asked, "auto", "openai.chat", Key("k"))
        booking = Booking(cast("Ledger", book), ask, decision, "none")
        terms = Terms(
            anyio.current_time() + self.settings.limits.total_s,
            session=session,
            fallbacks=self.fallbacks,
            reservation=self.reservation,
        )
        execution = Execution(self.experts, decision, booking, self.traffic, terms)
        run = Run(book, execution, booking)
        try:
            async with aclosing(execution.events(asked, failures, delivered)) as events:
                async for event in events:
                    run.events.append(event)
        except Exception as error:  # noqa: BLE001 - the tests look at it
            run.error = error
        return run

    def _decision(self, request: ChatRequest) -> Decision:
        cards = [expert.card for expert in self.experts.values()]
        decision = untrained_router("test").decide(
            request,
            cards[:1] if self.explicit else cards,
            preference=Preference(),
            policy_name="best",
            constraints=Constraints(),
            unhealthy={},
            uniform=0.0,
        )
        assert (
            decision.ranked()
            == tuple(card.expert_id for card in cards)[: 1 if self.explicit else None]
        )
        return decision


def scripted(name: str, *scripts: Any, rank: int = 0, **card: Any) -> ScriptedExpert:
    """An expert that plays its scripts; the one of the lowest rank is preferred."""
    fields = {"prices": Prices(1, 2), "quality_prior": 0.9 - 0.1 * rank, **card}
    return ScriptedExpert(ExpertCard(name, **fields), *scripts)


def composed_of(expert: Expert, name: str = "composed") -> Expert:
    """A composition that asks `expert` and passes its answer on."""

    class Composed:
        card = ExpertCard(name, quality_prior=0.95, composed=True)

        async def answer(self, request: ChatRequest, call: Any) -> AsyncGenerator[Event, None]:
            async with aclosing(call.run(expert, request)) as events:
                async for event in events:
                    yield event

        async def aclose(self) -> None:
            return None

    return Composed()


def down(name: str, status: int = 503) -> list[Any]:
    return [ExpertUnavailableError(name, "down", status=status)]


class Purse:
    """Allows calls until it is empty, and bounds their answers; `refused` once it was."""

    def __init__(self, calls: int) -> None:
        self.calls = calls
        self.refused = anyio.Event()
        self.open = 0
        self.paid: list[int | None] = []

    async def cover(self, card: ExpertCard, request: ChatRequest) -> Coin:
        if not self.calls:
            self.refused.set()
            raise ApiError(429, "the budget is spent", code="budget_exceeded")
        self.calls -= 1
        self.open += 1
        return Coin(self, ChatRequest(request.messages, 7, request.stream, request.params))


class Coin:
    """One call's worth of a purse."""

    def __init__(self, purse: Purse, request: ChatRequest) -> None:
        self.request = request
        self._purse = purse

    def spent(self, cost_nanousd: int | None, usage: Usage | None) -> None:
        self._purse.open -= 1
        self._purse.paid.append(cost_nanousd)


def cut_after(words: int, name: str) -> list[Any]:
    return [*ANSWER[:words], ExpertProtocolError(name, "cut")]


def status_of(run: Run) -> int:
    assert run.error is not None
    return api_error(run.error).status
