"""The owner's desk and the workers' lines, with engines that only pretend."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from experts.engines.load import EngineLoad
from experts.engines.states import EngineState, EngineStatus
from experts.errors import (
    ExpertBusyError,
    ExpertOutOfServiceError,
)
from experts.residency.planner import Footprint, ResidencyPlanner
from gateway.residency import desk
from gateway.residency.first import fitting
from gateway.residency.line import Line, LineError
from gateway.residency.residents import Residents
from gateway.residency.words import CommandResult
from tests.gateway.residency.pretended import owner


@asynccontextmanager
async def worker(path: Path, **options: float) -> AsyncIterator[Residents]:
    residents = Residents({"a": "a", "b": "b", "lora": "b"}, ("a", "b"), **options)  # type: ignore[arg-type]
    line = Line(path, residents)
    residents.line = line  # type: ignore[attr-defined]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(line.listen)
        await line.connected()
        yield residents
        tasks.cancel_scope.cancel()


async def becomes(true: Callable[[], bool]) -> None:
    """Waits for news that are still on their way."""
    with anyio.fail_after(30):
        while not true():  # noqa: ASYNC110 - nobody tells when
            await anyio.sleep(0.005)


async def call(residents: Residents, expert: str, for_s: float = 0.0) -> None:
    engine = await residents.enter(expert, 30.0)
    try:
        await anyio.sleep(for_s)
    finally:
        residents.leave(engine)


@pytest.mark.anyio
async def test_two_workers_take_turns_and_no_call_is_disturbed() -> None:
    with owner() as engines:
        async with worker(engines.desk.path) as one, worker(engines.desk.path) as two:
            assert "a" in one.barred
            for expert in ("a", "b", "a", "lora"):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(call, one, expert, 0.05)
                    tasks.start_soon(call, two, expert, 0.05)
            wakes = [move for move in engines.moves if move.endswith("wakes")]
            assert wakes == ["a wakes", "b wakes", "a wakes", "b wakes"]
            await call(two, "b")


@pytest.mark.anyio
async def test_an_expert_sleeps_only_after_calls_of_all_workers_are_over() -> None:
    with owner(window_s=0.05) as engines:
        async with worker(engines.desk.path) as one, worker(engines.desk.path) as two:
            ended: list[str] = []

            async def long_call() -> None:
                await call(one, "a", 0.3)
                ended.append("a")

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(long_call)
                await anyio.sleep(0.15)
                await call(two, "b")
                assert ended == ["a"]


@pytest.mark.anyio
async def test_who_leaves_while_waiting_is_forgotten_and_who_waits_too_long_is_told() -> None:
    with owner() as engines:
        path = engines.desk.path
        async with worker(path) as residents, worker(path, wait_s=0.05) as hasty:
            await residents.enter("a", 30.0)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(call, residents, "b")
                await becomes(lambda: residents.waiting("b") == 1)
                tasks.cancel_scope.cancel()
            assert residents.waiting("b") == 0
            with pytest.raises(ExpertBusyError, match=r"did not wake within 0\.05 s"):
                await call(hasty, "b")
            residents.leave("a")


@pytest.mark.anyio
async def test_only_so_many_wait_for_one_engine() -> None:
    with owner() as engines:
        async with (
            worker(engines.desk.path, queue=2) as residents,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(call, residents, "a")
            tasks.start_soon(call, residents, "a")
            await anyio.lowlevel.checkpoint()
            with pytest.raises(ExpertBusyError, match="2 requests wait for it to wake"):
                await call(residents, "a")


@pytest.mark.anyio
async def test_by_hand_and_out_of_service() -> None:
    with owner() as engines:
        async with worker(engines.desk.path, down_s=0.05) as residents:
            line: Line = residents.line  # type: ignore[attr-defined]
            assert (await line.command("wake", "a")).fault == ""
            assert residents.try_enter("a")
            residents.leave("a")
            assert (await line.command("sleep", "a")).fault == ""
            assert (await line.command("stop", "a")).fault == ""
            await becomes(lambda: residents.out == {"a": "its engine was stopped by hand"})
            with pytest.raises(ExpertOutOfServiceError, match="stopped by hand"):
                await call(residents, "a")
            refused = await line.command("wake", "a")
            assert (refused.fault, refused.message) == (
                "conflict",
                "a is stopped: start it first",
            )
            assert (await line.command("start", "a")).fault == ""
            engines.broken.add("b")
            failed = await line.command("wake", "b")
            assert (failed.fault, failed.message) == ("failed", "b is broken")
            with pytest.raises(ExpertOutOfServiceError, match="b is broken"):
                await call(residents, "b")
            shown = (await line.command("show")).shown
            assert shown["a"]["state"]["status"] in ("asleep", "ready", "draining")


@pytest.mark.anyio
async def test_who_is_stopped_before_there_is_room_for_it_does_not_wake_for_an_older_wish() -> None:
    with owner() as engines:
        async with worker(engines.desk.path) as residents:
            line: Line = residents.line  # type: ignore[attr-defined]
            await residents.enter("b", 30.0)
            told: list[CommandResult] = []

            async def wake() -> None:
                told.append(await line.command("wake", "a"))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wake)
                # It makes room for a as soon as its call is over.
                await becomes(lambda: not residents._doors["b"].stands.open)
                assert (await line.command("stop", "a")).fault == ""
                with anyio.fail_after(30):
                    await becomes(lambda: bool(told))
            assert (told[0].fault, told[0].message) == ("conflict", "a was stopped meanwhile")
            residents.leave("b")
            await call(residents, "b")
            assert "a wakes" not in engines.moves


@pytest.mark.anyio
async def test_sleepers_cost_their_wake_and_a_broken_down_one_is_out() -> None:
    with owner(wake_s=7.0) as engines:
        async with worker(engines.desk.path) as residents:
            assert residents.waits_s() == {"a": 7.0, "b": 7.0, "lora": 7.0}
            await call(residents, "a")
            assert set(residents.waits_s()) == {"b", "lora"}
            engines.put("a", EngineStatus.DOWN, "ended with exit code -9\nlog")
            told = {"a": "its engine is down: ended with exit code -9"}
            await becomes(lambda: residents.out == told)


@pytest.mark.anyio
async def test_an_engine_that_hangs_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "_LOAD_S", 0.05)
    let_go = threading.Event()

    def hang() -> EngineLoad:
        let_go.wait(10)
        return EngineLoad(1, 0)

    with owner() as engines:
        async with worker(engines.desk.path) as residents:
            await call(residents, "a")
            engines.loads["a"] = hang
            shown = await residents.line.shown()  # type: ignore[attr-defined]
            assert (shown["a"]["state"]["status"], shown["a"]["load"]) == ("ready", None)
            assert shown["b"]["state"]["status"] == "asleep"
            let_go.set()
            monkeypatch.setattr(desk, "_LOAD_S", 30.0)
            engines.loads["a"] = lambda: EngineLoad(1, 0)
            shown = await residents.line.shown()  # type: ignore[attr-defined]
            assert shown["a"]["load"]["running"] == 1


@pytest.mark.anyio
async def test_when_the_owner_is_gone_nobody_begins() -> None:
    with owner() as engines:
        path = engines.desk.path
        async with worker(path) as residents:
            await call(residents, "a")
            line: Line = residents.line  # type: ignore[attr-defined]
            residents.lost()
            assert not residents.try_enter("a")
            with pytest.raises(LineError):
                await Line(Path("/nowhere"), Residents({"a": "a"})).connected(0.01)
            assert line.residents is residents


def test_the_most_asked_that_fit_begin_awake() -> None:
    memory = {"big": 3.0, "mid": 2.0, "small": 1.0}
    footprints = {name: Footprint(takes, 1.0) for name, takes in memory.items()}
    planner = ResidencyPlanner(footprints, 3.0)
    assert fitting(planner, ["mid", "mid", "small", "big"]) == {"mid", "small"}
    assert fitting(planner, []) == {"big"}


@pytest.mark.anyio
async def test_an_engine_that_goes_before_its_calls_do_takes_no_other_along() -> None:
    awake = EngineState("c", "", EngineStatus.READY, serves=("c",))
    with owner() as engines:
        engines.desk.told(awake)
        async with worker(engines.desk.path) as residents:
            residents.move_in({"a": "a", "c": "c"})
            line: Line = residents.line  # type: ignore[attr-defined]
            await residents.enter("c", 30.0)
            connection = line._writer
            # Its calls were waited for long enough, and now it is there no more.
            engines.desk.told(replace(awake, status=EngineStatus.DRAINING))
            await anyio.to_thread.run_sync(engines.desk.drain, "c", 0.01)
            engines.desk.gone("c")
            with anyio.fail_after(30):
                await call(residents, "a")
            residents.leave("c")
            assert line._writer is connection
