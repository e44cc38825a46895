from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experts.errors import ExpertBusyError
from gateway.execution import slots as slots_module
from gateway.execution.slots import Slots


def running(scenario: Callable[[], Awaitable[Any]]) -> Any:
    return anyio.run(scenario)


async def settled() -> None:
    """Let every task run until it waits."""
    for _ in range(5):
        await anyio.lowlevel.checkpoint()


class Line:
    """Calls that wait for expert "e", and the order in which they were served."""

    def __init__(self, slots: Slots, tasks: anyio.abc.TaskGroup) -> None:
        self.slots = slots
        self.tasks = tasks
        self.served: list[str] = []
        self.refused: list[str] = []

    async def join(self, name: str) -> None:
        self.tasks.start_soon(self._wait, name)
        await settled()

    async def _wait(self, name: str) -> None:
        try:
            await self.slots.acquire("e", name[0])
        except ExpertBusyError:
            self.refused.append(name)
        else:
            self.served.append(name)


def test_an_expert_without_a_limit_is_never_full() -> None:
    slots = Slots({})
    assert all(slots.try_acquire("e") for _ in range(1000))
    slots.release("e")


def test_slots_are_taken_and_given_back() -> None:
    slots = Slots({"e": 2})
    assert [slots.try_acquire("e") for _ in range(3)] == [True, True, False]
    slots.release("e")
    assert slots.try_acquire("e")


def test_keys_take_turns() -> None:
    async def scenario() -> list[str]:
        slots = Slots({"e": 1})
        async with anyio.create_task_group() as tasks:
            line = Line(slots, tasks)
            assert slots.try_acquire("e")
            for name in ("a1", "a2", "a3", "b1", "c1", "b2"):
                await line.join(name)
            assert not slots.try_acquire("e"), "nobody overtakes the queue"
            for _ in range(6):
                slots.release("e")
                await settled()
        return line.served

    assert running(scenario) == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_a_full_queue_refuses_but_makes_room_for_a_key_that_has_less() -> None:
    async def scenario() -> tuple[list[str], list[str]]:
        slots = Slots({"e": 1}, queue=3)
        async with anyio.create_task_group() as tasks:
            line = Line(slots, tasks)
            assert slots.try_acquire("e")
            for name in ("a1", "a2", "a3", "a4", "b1"):
                await line.join(name)
            assert slots.waiting("e") == 3
            for _ in range(3):
                slots.release("e")
                await settled()
        return line.refused, line.served

    assert running(scenario) == (["a4", "a3"], ["a1", "b1", "a2"])


def test_a_wait_that_is_too_long_is_refused_with_advice() -> None:
    async def scenario() -> None:
        slots = Slots({"e": 1}, wait_s=0.01)
        assert slots.try_acquire("e")
        with pytest.raises(ExpertBusyError) as caught:
            await slots.acquire("e", "a")
        assert caught.value.retry_after_s == 1
        assert slots.waiting("e") == 0
        slots.release("e")
        assert slots.try_acquire("e")

    running(scenario)


@pytest.mark.parametrize("served", [False, True], ids=["waiting", "just served"])
def test_a_client_that_leaves_the_queue_takes_no_slot_along(served: bool) -> None:
    async def scenario() -> None:
        slots = Slots({"e": 1})
        assert slots.try_acquire("e")
        call = asyncio.create_task(slots.acquire("e", "a"))
        await settled()
        if served:
            slots.release("e")
        call.cancel()
        if not served:
            slots.release("e")
        with pytest.raises(asyncio.CancelledError):
            await call
        assert slots.waiting("e") == 0
        assert slots.try_acquire("e")

    running(scenario)


def test_who_is_sent_away_and_leaves_in_the_same_moment_gives_back_nothing() -> None:
    async def scenario() -> None:
        slots = Slots({"e": 1}, queue=2)
        assert slots.try_acquire("e")
        calls = [asyncio.create_task(slots.acquire("e", who)) for who in ("a", "a", "b")]
        # In this turn the third takes the place of the second, which hears of it in the next.
        await asyncio.sleep(0)
        calls[1].cancel()
        await asyncio.wait([calls[1]])
        assert not any(call.done() for call in (calls[0], calls[2]))
        for call in (calls[0], calls[2]):
            slots.release("e")
            await call
        slots.release("e")
        assert [slots.try_acquire("e") for _ in range(2)] == [True, False]

    running(scenario)


def test_room_is_made_only_where_that_leaves_nobody_with_more_than_before() -> None:
    async def scenario() -> tuple[list[str], list[str]]:
        slots = Slots({"e": 1}, queue=3)
        async with anyio.create_task_group() as tasks:
            line = Line(slots, tasks)
            assert slots.try_acquire("e")
            for name in ("a1", "a2", "b1", "b2"):
                await line.join(name)
            for _ in range(3):
                slots.release("e")
                await settled()
        return line.refused, line.served

    assert running(scenario) == (["b2"], ["a1", "b1", "a2"])


def test_a_further_wait_is_expected_by_how_turns_came_round_while_others_waited(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr(slots_module, "time", SimpleNamespace(monotonic=lambda: now))

    async def served(slots: Slots, names: Sequence[str], every_s: float) -> float:
        """As many turns as there are names; what a further call had to expect before the last."""
        nonlocal now
        async with anyio.create_task_group() as tasks:
            line = Line(slots, tasks)
            assert slots.try_acquire("e")
            for name in names:
                await line.join(name)
            for _ in names[1:]:
                now += every_s
                slots.release("e")
            expected = slots.waits_s()["e"]
            now += every_s
            slots.release("e")
        assert slots.waits_s() == {}
        slots.release("e")
        return expected

    async def scenario() -> None:
        nonlocal now
        slots = Slots({"e": 1}, wait_s=30)
        assert await served(slots, ["a1", "a2", "a3"], 5.0) == pytest.approx(1.0)
        # Nobody waited for long, which says nothing.
        now += 1000.0
        assert await served(slots, ["a1", "a2"], 5.0) == pytest.approx(1.8)
        assert await served(slots, ["a1", "a2", "a3"], 1e6) == 30

    running(scenario)


def test_a_borrowed_slot_is_asked_back_by_who_waits_for_one() -> None:
    async def scenario() -> None:
        slots = Slots({"e": 2}, queue=10, wait_s=10)
        asked_back: list[str] = []

        def first() -> None:
            asked_back.append("first")

        def second() -> None:
            asked_back.append("second")

        assert slots.borrow("e", first)
        assert slots.borrow("e", second)
        assert not slots.borrow("e", first)
        async with anyio.create_task_group() as tasks:
            line = Line(slots, tasks)
            await line.join("a1")
            assert (asked_back, line.served) == (["first"], [])
            slots.hand_back("e", first)
            await settled()
            assert line.served == ["a1"]
            slots.hand_back("e", second)
            assert slots.try_acquire("e")
            await line.join("a2")
            assert asked_back == ["first"], "who gave it back is not asked for it"
            slots.release("e")

    running(scenario)


def test_who_gets_a_borrowed_slot_back_waits_for_it_though_nobody_else_may_wait() -> None:
    async def scenario() -> None:
        slots = Slots({"e": 1}, queue=0)
        asked_back = anyio.Event()
        assert slots.borrow("e", asked_back.set)
        async with anyio.create_task_group() as tasks:
            line = Line(slots, tasks)
            await line.join("a1")
            assert asked_back.is_set()
            await line.join("a2")
            slots.hand_back("e", asked_back.set)
        assert (line.served, line.refused) == (["a1"], ["a2"])

    running(scenario)


def test_under_any_load_no_slot_is_lost_and_none_is_given_twice() -> None:
    async def scenario() -> int:
        slots = Slots({"e": 3}, queue=20, wait_s=0.02)
        inside = most = 0

        async def call(who: int) -> None:
            nonlocal inside, most
            try:
                await slots.acquire("e", str(who % 4))
            except ExpertBusyError:
                return
            inside += 1
            most = max(most, inside)
            try:
                await asyncio.sleep(0.001 * (who % 7))
            finally:
                inside -= 1
                slots.release("e")

        async with anyio.create_task_group() as tasks:
            for who in range(200):
                tasks.start_soon(call, who)
                if who % 10 == 0:
                    await settled()
        assert [slots.try_acquire("e") for _ in range(4)] == [True, True, True, False]
        return most

    assert running(scenario) == 3


class Call:
    """One call for a slot of expert "e"; `holds` while it has one."""

    def __init__(self, slots: Slots, who: str) -> None:
        self.slots = slots
        self.holds = False
        self.done = asyncio.Event()
        self.task = asyncio.create_task(self._run(who))

    async def _run(self, who: str) -> None:
        await self.slots.acquire("e", who)
        self.holds = True
        try:
            await self.done.wait()
        finally:
            self.holds = False
            self.slots.release("e")


class Shadow:
    """One call that borrows a slot until somebody wants it."""

    def __init__(self, slots: Slots) -> None:
        self.slots = slots
        self.recalled = False
        self.holds = slots.borrow("e", self.recall)

    def recall(self) -> None:
        assert self.holds, "only who has it is asked for it"
        assert not self.recalled, "it is asked back once"
        self.recalled = True

    def end(self) -> None:
        if self.holds:
            self.holds = False
            self.slots.hand_back("e", self.recall)


class Scene:
    """Calls and shadow calls that come and go at one slot."""

    def __init__(self, queue: int) -> None:
        self.slots = Slots({"e": 1}, queue=queue, wait_s=600)
        self.calls: list[Call] = []
        self.shadows: list[Shadow] = []

    async def arrive(self, which: int) -> None:
        self.calls.append(Call(self.slots, "ab"[which % 2]))
        await asyncio.sleep(0)

    async def turn(self, _which: int) -> None:
        await asyncio.sleep(0)

    async def end(self, which: int) -> None:
        """In the next turn the slot is given to whoever waits, who knows it in the one after."""
        if holding := [call for call in self.calls if call.holds]:
            holding[which % len(holding)].done.set()

    async def leave(self, which: int) -> None:
        under_way = [call for call in self.calls if not call.task.done()]
        waiting = [call for call in under_way if not call.holds]
        if among := waiting or under_way:
            among[which % len(among)].task.cancel()

    async def borrow(self, _which: int) -> None:
        self.shadows.append(Shadow(self.slots))

    async def hand_back(self, which: int) -> None:
        if self.shadows:
            self.shadows.pop(which % len(self.shadows)).end()

    def taken(self) -> int:
        return sum(one.holds for one in self.calls) + sum(one.holds for one in self.shadows)

    async def close(self) -> None:
        """All end without any timer's help, and nobody heard but that there was no room."""
        for shadow in self.shadows:
            shadow.end()
        for call in self.calls:
            call.done.set()
        for _ in range(3 * len(self.calls) + 3):
            await asyncio.sleep(0)
        assert all(call.task.done() for call in self.calls)
        failed = [call.task.exception() for call in self.calls if not call.task.cancelled()]
        assert all(isinstance(error, ExpertBusyError | None) for error in failed)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["arrive", "turn", "end", "leave", "borrow", "hand_back"]),
        st.integers(0, 3),
    ),
    min_size=10,
    max_size=50,
)


@given(STEPS, st.integers(0, 3))
def test_whoever_leaves_at_whatever_moment_takes_no_slot_along(
    steps: list[tuple[str, int]], queue: int
) -> None:
    """Also one that is served and leaves in the same turn of the loop, in either order."""

    async def scenario() -> None:
        scene = Scene(queue)
        for what, which in steps:
            await getattr(scene, what)(which)
            assert scene.taken() <= 1
        await scene.close()
        assert scene.slots.waiting("e") == 0
        assert [scene.slots.try_acquire("e") for _ in range(2)] == [True, False]

    running(scenario)
