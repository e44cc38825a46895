"""One timer for everybody who waits."""

from __future__ import annotations

import asyncio

import pytest

from gateway.fast.clock import Clock, Wheel

pytestmark = pytest.mark.anyio


class Told:
    def __init__(self) -> None:
        self.late: list[tuple[str, float]] = []
        self.event = asyncio.Event()

    def __call__(self, what: str, waited_s: float) -> None:
        self.late.append((what, waited_s))
        self.event.set()


async def test_what_is_late_is_told_once_with_what_was_waited() -> None:
    loop, told = asyncio.get_running_loop(), Told()
    clock = Clock(loop, loop.time() + 100, told)
    clock.wait("the head", 5.0)
    clock.check(loop.time() + 4.9)
    assert told.late == []
    clock.check(loop.time() + 5.1)
    clock.check(loop.time() + 9)
    ((what, waited_s),) = told.late
    assert what == "the head"
    assert waited_s == pytest.approx(5.0)


async def test_no_wait_is_longer_than_the_deadline_and_a_new_one_replaces_the_old() -> None:
    loop, told = asyncio.get_running_loop(), Told()
    now = loop.time()
    clock = Clock(loop, now + 3, told)
    clock.wait("the head", 1.0)
    clock.wait("the next token", 50.0, since=now)
    clock.check(now + 2.9)
    assert told.late == []
    clock.check(now + 3.1)
    ((what, waited_s),) = told.late
    assert what == "the next token"
    assert waited_s == pytest.approx(3.0)


async def test_who_stops_waiting_is_told_nothing() -> None:
    loop, told = asyncio.get_running_loop(), Told()
    clock = Clock(loop, loop.time() + 1, told)
    clock.wait("the head", 0.5)
    clock.stop()
    clock.check(loop.time() + 5)
    assert told.late == []


async def test_the_wheel_turns_while_somebody_waits_and_rests_when_nobody_does() -> None:
    loop, told = asyncio.get_running_loop(), Told()
    wheel = Wheel[Clock]()
    clock = Clock(loop, loop.time() + 100, told)
    clock.wait("usage", 0.01)
    wheel.add(clock, loop)
    await asyncio.wait_for(told.event.wait(), 10)
    assert [what for what, _ in told.late] == ["usage"]
    wheel.discard(clock)
    # It finds nobody at its next turn.
    wheel._turn(loop)
    assert wheel._timer is None
    wheel.add(clock, loop)
    assert wheel._timer is not None
    wheel._timer.cancel()
