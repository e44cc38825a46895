"""What one call tells the health of its expert, and what ends it when nobody else does."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import Any

import anyio
import pytest

from experts.base import Call, Expert
from experts.cards import Caps, ExpertCard
from experts.errors import (
    ExpertBusyError,
    ExpertCallError,
    ExpertCapError,
    ExpertOutOfServiceError,
    ExpertTimeoutError,
    ExpertUnavailableError,
)
from experts.fakes.scripted import Hold
from experts.http.breaker import BreakerRules, BreakerState
from experts.messages import ChatRequest, Delta, Event, Message, Usage
from gateway.booking import Attempt
from gateway.errors import ApiError, LedgerError
from gateway.execution.attempt import Attempts
from gateway.execution.health import Health
from gateway.execution.slots import Slots
from gateway.execution.traffic import Terms
from tests.gateway.execution.bench import (
    ANSWER,
    WHOLE,
    Bench,
    Purse,
    composed_of,
    down,
    scripted,
)

pytestmark = pytest.mark.anyio

ASKED = ChatRequest((Message("user", "Hi"),), max_tokens=10, stream=True)


class Books:
    """Notes how calls end; `hangs` never lets one begin."""

    def __init__(self, hangs: bool = False) -> None:
        self.hangs = hangs
        self.ended: list[tuple[str, str]] = []

    async def begin(self, card: ExpertCard, parent: Attempt | None = None) -> Attempt:
        if self.hangs:
            await anyio.sleep_forever()
        parent_id = None
        if parent is not None:
            parent.has_children, parent_id = True, parent.attempt_id
        return Attempt("att", card, parent_id, time.monotonic())

    def end(
        self, attempt: Attempt, status: str, error: ExpertCallError | None = None
    ) -> int | None:
        self.ended.append((attempt.card.expert_id, status))
        return attempt.cost_nanousd()


class Clock:
    """Of the experts' breakers."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def unsound(bench: Bench, name: str, failures: int = 1) -> tuple[Health, Clock]:
    """An expert that has failed once; it opens after `failures` in a row."""
    clock = Clock()
    health = Health(BreakerRules(failures=failures, open_s=5), clock)
    bench.traffic = replace(bench.traffic, health=health)
    health.record(name, ExpertUnavailableError(name, "down"))
    return health, clock


async def said(bench: Bench, expert: Expert, books: Books | None = None, **terms: Any) -> str:
    deadline = anyio.current_time() + bench.settings.limits.total_s
    given = Terms(deadline, reservation=bench.reservation, **terms)
    calls = Attempts(bench.traffic, given, books or Books())
    events: list[Event] = []
    async with aclosing(calls.run(expert, ASKED)) as source:
        async for event in source:
            events.append(event)
            calls.flows()
    return "".join(getattr(event, "text", "") for event in events)


async def test_a_shadow_call_is_no_probe() -> None:
    expert = scripted("a", ANSWER)
    bench = Bench(expert)
    health, clock = unsound(bench, "a")
    clock.now += 6
    with pytest.raises(ExpertOutOfServiceError):
        await said(bench, expert, recall=lambda: None)
    assert (expert.calls, health.state("a")) == ([], BreakerState.OPEN)
    assert await said(bench, expert)
    assert health.state("a") is BreakerState.CLOSED


@pytest.mark.parametrize("script", [ANSWER, down("a")], ids=["answered", "failed"])
async def test_how_a_shadow_call_ends_says_nothing_of_the_expert(script: Any) -> None:
    expert = scripted("a", script)
    bench = Bench(expert)
    health, _ = unsound(bench, "a", failures=2)
    with suppress(ExpertUnavailableError):
        await said(bench, expert, recall=lambda: None)
    assert health.state("a") is BreakerState.CLOSED
    health.record("a", ExpertUnavailableError("a", "down"))
    assert health.state("a") is BreakerState.OPEN, "two failures in a row, as requests saw it"


async def test_a_call_that_a_cap_forbids_is_no_probe_that_succeeded() -> None:
    expert = scripted("a", ANSWER)
    bench = Bench(expert)
    bench.reservation = Purse(1)
    health, clock = unsound(bench, "a")
    clock.now += 6
    with pytest.raises(ExpertCapError):
        await said(bench, composed_of(expert))
    assert (expert.calls, health.state("a")) == ([], BreakerState.HALF_OPEN)
    assert health.wait_s("a") == 0, "the next one is the probe"


async def test_what_a_call_cost_is_taken_from_the_cap_of_who_made_it() -> None:
    child = scripted("a", [*ANSWER[:-1], Usage(input=100, output=50)])
    rooms: list[float] = []

    class Twice:
        card = ExpertCard("twice", composed=True, caps=Caps(usd=1.0))

        async def answer(self, request: ChatRequest, call: Call) -> AsyncGenerator[Event, None]:
            for _ in range(2):
                rooms.append(call.room_usd())
                async with aclosing(call.run(child, request)) as events:
                    async for event in events:
                        yield event
            rooms.append(call.room_usd())

        async def aclose(self) -> None:
            return None

    books = Books()
    await said(Bench(child), Twice(), books)
    assert rooms == pytest.approx([1.0, 1.0 - 0.0002, 1.0 - 0.0004])
    assert books.ended == [("a", "ok"), ("a", "ok"), ("twice", "ok")]


@pytest.mark.parametrize("hurried", [False, True])
async def test_a_ledger_that_hangs_is_not_waited_for_beyond_the_deadline(hurried: bool) -> None:
    expert = scripted("a", ANSWER)
    bench = Bench(expert, limits={"total_s": 0.02})
    bench.reservation = purse = Purse(1)
    with anyio.fail_after(20), pytest.raises(ApiError if hurried else LedgerError):
        await said(bench, expert, Books(hangs=True), hurried=hurried)
    assert (expert.calls, purse.open, purse.paid) == ([], 0, [0])


async def test_a_stream_that_falls_silent_ends_with_its_time() -> None:
    expert = scripted("a", [*ANSWER[:2], Hold()])
    bench = Bench(expert, limits={"total_s": 0.02, "idle_s": 60})
    books = Books()
    with anyio.fail_after(20), pytest.raises(ExpertTimeoutError):
        await said(bench, expert, books, stream_more_s=0.02)
    assert books.ended == [("a", "failed")]


async def test_a_silent_expert_leaves_half_of_the_time_to_another() -> None:
    patient = dict.fromkeys(("first_token_s", "header_s", "failover_s"), 60)
    silent, other = scripted("a", [Hold()]), scripted("b", ANSWER, rank=1)
    run = await Bench(silent, other, limits={"total_s": 3, **patient}).run()
    assert run.execution.answered_by == "b"


async def test_when_a_compositions_time_is_up_its_call_ends_without_blame_and_it_goes_on() -> None:
    child = scripted("a", [Hold()])

    class Patient:
        card = ExpertCard("patient", composed=True, caps=Caps(seconds=0.05))

        async def answer(self, request: ChatRequest, call: Call) -> AsyncGenerator[Event, None]:
            with suppress(ExpertTimeoutError):
                async with aclosing(call.run(child, request)) as events:
                    async for event in events:
                        yield event
            yield Delta(WHOLE)

        async def aclose(self) -> None:
            return None

    bench, books = Bench(child, breaker={"failures": 1}), Books()
    with anyio.fail_after(20):
        assert await said(bench, Patient(), books) == WHOLE
    assert books.ended == [("a", "failed"), ("patient", "ok")]
    assert bench.traffic.health.state("a") is BreakerState.CLOSED


async def test_a_slot_is_waited_for_until_the_deadline_and_then_by_nobody() -> None:
    expert = scripted("a", ANSWER)
    bench = Bench(expert, limits={"total_s": 0.02})
    bench.traffic = replace(bench.traffic, slots=(slots := Slots({"a": 1}, wait_s=600)))
    assert slots.try_acquire("a")
    with anyio.fail_after(20), pytest.raises(ExpertBusyError, match="in time"):
        await said(bench, expert)
    assert slots.waiting("a") == 0
    slots.release("a")
    assert slots.try_acquire("a")


async def test_a_shadow_call_that_is_over_is_not_asked_for_its_slot() -> None:
    expert = scripted("a", ANSWER)
    bench, recalled = Bench(expert), list[str]()
    bench.traffic = replace(bench.traffic, slots=(slots := Slots({"a": 1}, wait_s=0.02)))
    assert await said(bench, expert, recall=lambda: recalled.append("a"))
    assert slots.try_acquire("a")
    with anyio.fail_after(20), pytest.raises(ExpertBusyError):
        await said(bench, expert)
    assert recalled == []
