"""A second expert, asked when the first is slow to speak."""

from __future__ import annotations

from dataclasses import replace

import anyio
import pytest
from anyio.lowlevel import checkpoint

from experts.fakes.scripted import Ending, Hold, Sleep
from experts.messages import Usage
from gateway.execution.slots import Slots
from tests.gateway.execution.bench import (
    ANSWER,
    WHOLE,
    Bench,
    Purse,
    Run,
    down,
    scripted,
)

pytestmark = pytest.mark.anyio


HEDGED = {"hedge_after_s": 0.03}


async def test_the_second_expert_answers_when_the_first_is_silent() -> None:
    slow = scripted("a", [Hold(), *ANSWER])
    run = await Bench(slow, scripted("b", ANSWER, rank=1), execution=HEDGED).run()
    assert (run.text, run.execution.answered_by) == (WHOLE, "b")
    assert run.book.attempts() == [("a", "cancelled", None), ("b", "ok", None)]
    assert slow.calls[0].ending is Ending.CLOSED
    assert run.booking.cost_complete
    assert run.booking.usage == Usage(input=10, output=6)


async def test_the_first_expert_answers_if_it_is_faster_after_all() -> None:
    hold, asked = Hold(), Hold()
    first, second = scripted("a", [hold, *ANSWER]), scripted("b", [asked], rank=1)
    bench = Bench(first, second, execution=HEDGED)

    async def release() -> None:
        await asked.reached.wait()
        hold.release.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(release)
        run = await bench.run()
    assert run.execution.answered_by == "a"
    assert run.book.attempts() == [("a", "ok", None), ("b", "cancelled", None)]


async def test_nobody_is_hedged_who_speaks_in_time() -> None:
    second = scripted("b", ANSWER, rank=1)
    run = await Bench(scripted("a", ANSWER), second, execution=HEDGED).run()
    assert (run.execution.answered_by, second.calls) == ("a", [])


async def test_a_hedge_that_fails_is_no_loss() -> None:
    hold, asked = Hold(), Hold()
    asked.release.set()
    second = scripted("b", [asked, *down("b")], rank=1)

    async def release() -> None:
        await asked.reached.wait()
        hold.release.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(release)
        run = await Bench(scripted("a", [hold, *ANSWER]), second, execution=HEDGED).run()
    assert run.book.attempts() == [("a", "ok", None), ("b", "failed", "unavailable")]


async def test_when_both_calls_fail_a_third_expert_is_asked() -> None:
    asked = Hold()
    asked.release.set()
    first = scripted("a", [Sleep(0.1), *down("a")])
    second = scripted("b", [asked, *down("b")], rank=1)
    run = await Bench(first, second, scripted("c", ANSWER, rank=2), execution=HEDGED).run()
    assert run.execution.answered_by == "c"
    assert run.booking.attempts == 3


async def test_a_client_that_leaves_stops_both_calls() -> None:
    asked = Hold()
    first, second = scripted("a", [Hold()]), scripted("b", [asked], rank=1)
    bench = Bench(first, second, execution=HEDGED)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.run)
        await asked.reached.wait()
        tasks.cancel_scope.cancel()
    assert [expert.calls[0].ending for expert in (first, second)] == [Ending.CLOSED] * 2


async def test_a_hedge_needs_a_retry_from_the_budget() -> None:
    hold, second = Hold(), scripted("b", ANSWER, rank=1)
    rules = {**HEDGED, "retry_ratio": 0, "retries_per_s": 0}
    bench = Bench(scripted("a", [hold, *ANSWER]), second, execution=rules)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.run)
        await hold.reached.wait()
        await anyio.sleep(0.1)
        hold.release.set()
    assert second.calls == []


@pytest.mark.parametrize("late", ["first", "second"])
async def test_who_has_no_money_left_does_not_end_the_other_call(late: str) -> None:
    """One call takes all that there is, so the other one is refused while that one goes on."""
    hold = Hold()
    first, second = scripted("a", [hold, *ANSWER]), scripted("b", [hold, *ANSWER], rank=1)
    bench = Bench(first, second, execution=HEDGED)
    bench.reservation = purse = Purse(1)
    if late == "first":
        # It waits for a slot until the other one has been asked.
        bench.traffic = replace(bench.traffic, slots=Slots({"a": 1}))
        assert bench.traffic.slots.try_acquire("a")
    runs: list[Run] = []

    async def run() -> None:
        runs.append(await bench.run())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await hold.reached.wait()
        bench.traffic.slots.release("a")
        await purse.refused.wait()
        for _ in range(5):
            await checkpoint()
        hold.release.set()
    assert (runs[0].text, runs[0].error) == (WHOLE, None)
    assert runs[0].execution.answered_by == ("b" if late == "first" else "a")
    assert (purse.open, len(runs[0].book.attempts())) == (0, 1)
