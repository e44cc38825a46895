"""Engines start together, are started again when they die, and never outlive their supervisor."""

from __future__ import annotations

import os
import queue
import signal
import threading
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experts.engines.keeper import Backoff, Timing
from experts.engines.llama import LlamaSpec
from experts.engines.load import EngineLoad
from experts.engines.states import ENDED, EngineState, EngineStatus
from experts.engines.supervisor import Supervisor
from experts.errors import EngineMoveError, EngineStartError
from tests.experts.engines.stage import PATIENCE_S, Stage

READY, DOWN, STARTING = EngineStatus.READY, EngineStatus.DOWN, EngineStatus.STARTING


def test_inside_the_block_every_engine_is_ready_and_afterwards_none_is_left() -> None:
    stage = Stage("a", "b")
    with stage.supervisor() as supervisor:
        assert [(s.expert_id, s.status) for s in supervisor.states()] == [
            ("a", READY),
            ("b", READY),
        ]
        assert supervisor.base_url("b") == "http://127.0.0.1:1/b/v1"
        assert all(engine.running for engine in stage.engines.values())
    assert all(engine.closed for engine in stage.engines.values())
    assert {state.status for state in supervisor.states()} == {EngineStatus.STOPPED}


def test_a_supervisor_of_nothing_is_fine() -> None:
    with Stage().supervisor() as supervisor:
        assert supervisor.states() == ()


def test_engines_stop_when_the_block_fails() -> None:
    stage = Stage("a")
    with pytest.raises(RuntimeError, match="in the block"), stage.supervisor():
        raise RuntimeError("in the block")
    assert stage.engines["a"].closed


def test_an_engine_that_died_is_started_again() -> None:
    stage = Stage("a")
    with stage.supervisor(Backoff(first_s=3.0)) as supervisor:
        stage.expect(READY)
        stage.engines["a"].die()
        assert stage.expect(DOWN).last_error == "ended with exit code -9"
        assert stage.expect(STARTING).restarts == 1
        assert stage.expect(READY).restarts == 1
        assert supervisor.states()[0].last_error == "ended with exit code -9"
        assert stage.waited == [3.0]


def test_an_engine_that_keeps_dying_is_started_less_and_less_often() -> None:
    stage = Stage("a", failing_starts=(2, 3, 4))
    with stage.supervisor(Backoff(first_s=1.0, most_s=6.0)):
        stage.expect(READY)
        stage.engines["a"].die()
        state = stage.expect(READY)
        assert stage.waited == [1.0, 2.0, 4.0, 6.0]
        assert state.restarts == 4
        assert state.last_error == "start 4 failed"


def test_an_engine_that_lasted_long_is_started_again_soon() -> None:
    stage = Stage("a")
    with stage.supervisor(Backoff(first_s=1.0, forgive_s=60.0)):
        for lasted in (1.0, 1.0, 61.0, 1.0):
            stage.expect(READY)
            stage.now += lasted
            stage.engines["a"].die()
        stage.expect(READY)
        assert stage.waited == [1.0, 2.0, 1.0, 2.0]


def test_if_one_engine_does_not_come_up_none_is_left_running() -> None:
    stage = Stage("a", "b")
    stage.specs[1] = replace(stage.specs[1], failing_starts=(1,))
    timing = {"wait": threading.Event.wait}
    broken = stage.supervisor(Backoff(first_s=3600, most_s=3600), timing=timing)
    with pytest.raises(EngineStartError, match="start 1 failed"), broken:
        pytest.fail("entered")
    assert [engine.closed for engine in stage.engines.values()] == [True, True]
    assert [engine.starts for engine in stage.engines.values()] == [1, 1]


def test_waiting_to_start_again_ends_when_the_supervisor_closes() -> None:
    stage = Stage("a")
    timing = {"wait": threading.Event.wait}
    with stage.supervisor(Backoff(first_s=3600, most_s=3600), timing=timing):
        stage.engines["a"].die()
        stage.expect(DOWN)
    assert stage.engines["a"].starts == 1


def test_changes_are_told_one_at_a_time() -> None:
    telling = threading.Lock()
    stage = Stage("a", "b", "c")

    def listen(state: EngineState) -> None:
        assert telling.acquire(blocking=False)
        threading.Event().wait(0.01)  # long enough for the others to come in between
        stage.changes.put(state)
        telling.release()

    with Supervisor(stage.specs, Path("logs"), on_change=listen):
        pass
    told = [stage.changes.get_nowait().status for _ in range(6)]
    assert sorted(told) == [READY] * 3 + [EngineStatus.STOPPED] * 3
    assert stage.changes.empty()


@given(st.integers(1, 10_000), st.floats(0.01, 10), st.floats(10, 1000))
def test_waits_grow_up_to_a_bound(failures: int, first_s: float, most_s: float) -> None:
    backoff = Backoff(first_s, most_s)
    assert backoff.delay_s(1) == first_s
    assert first_s <= backoff.delay_s(failures) <= backoff.delay_s(failures + 1) <= most_s


def test_a_sleeper_drains_first_and_says_what_its_moves_took() -> None:
    stage = Stage("a", levels=frozenset({1, 2}), adapters={"a-law": "path"})
    drained: list[tuple[str, float]] = []

    def drain(expert_id: str, patience_s: float) -> None:
        assert supervisor.state("a").status is EngineStatus.DRAINING
        drained.append((expert_id, patience_s))
        stage.now += 1.0

    with stage.supervisor(drain=drain, timing={"drain_s": 7.0}) as supervisor:
        engine = stage.engines["a"]
        engine.loads = [EngineLoad(2, 1), EngineLoad(1, 0), EngineLoad(0, 0)]
        supervisor.sleep("a-law", 1)
        assert drained == [("a", 7.0)]
        assert engine.loads == []
        state = supervisor.state("a")
        assert (state.status, state.level, state.sleep_s) == (EngineStatus.ASLEEP, 1, 0.0)
        supervisor.sleep("a", 1)  # it does already
        supervisor.wake("a")
        assert supervisor.state("a").wake_s == 0.0
        assert (engine.asleep, engine.starts, len(drained)) == (0, 1, 1)
        supervisor.sleep("a", 2)
        assert engine.asleep == 2
        supervisor.sleep("a", ENDED)
        assert (engine.running, supervisor.state("a").level) == (False, ENDED)
        supervisor.wake("a")
        assert (engine.running, engine.starts, supervisor.state("a").wakes) == (True, 2, 2)
    assert [stage.changes.get().status for _ in range(4)] == [
        READY,
        EngineStatus.DRAINING,
        EngineStatus.ASLEEP,
        EngineStatus.WAKING,
    ]


def test_draining_has_a_limit() -> None:
    stage = Stage("a")

    def wait(closing: threading.Event, seconds: float) -> bool:
        stage.now += 1.0
        return closing.is_set()

    with stage.supervisor(timing={"drain_s": 7.0, "wait": wait}) as supervisor:
        stage.engines["a"].loads = [EngineLoad(1, 0)] * 20
        supervisor.stop("a")
        assert stage.now == 7.0


def test_one_without_levels_sleeps_by_ending_and_nobody_restarts_it() -> None:
    stage = Stage("a")
    with stage.supervisor() as supervisor:
        supervisor.sleep("a", 1)
        state = supervisor.state("a")
        assert (state.status, state.level) == (EngineStatus.ASLEEP, ENDED)
        assert not stage.engines["a"].running
        supervisor.wake("a")
        state = supervisor.state("a")
        assert (state.status, state.level, state.restarts, state.wakes) == (READY, 0, 0, 1)
        stage.engines["a"].die()
        stage.expect(DOWN)
        assert stage.expect(READY).restarts == 1


def test_a_stopped_one_only_starts() -> None:
    stage = Stage("a")
    with stage.supervisor() as supervisor:
        supervisor.stop("a")
        assert supervisor.state("a").status is EngineStatus.STOPPED
        with pytest.raises(EngineMoveError, match="'a': it is stopped and can't wake"):
            supervisor.wake("a")
        with pytest.raises(EngineMoveError, match="'a': it is stopped and can't go to sleep"):
            supervisor.sleep("a")
        supervisor.start("a")
        assert supervisor.state("a").status is READY
        with pytest.raises(EngineMoveError, match=r"no local engine serves 'b'; there are: a$"):
            supervisor.start("b")
    assert stage.waited == []


def test_a_lazy_one_starts_when_it_is_woken() -> None:
    stage = Stage("a", lazy=True, failing_starts=(1,))
    with stage.supervisor() as supervisor:
        before = supervisor.state("a")
        assert (before.status, before.level) == (EngineStatus.ASLEEP, ENDED)
        with pytest.raises(EngineStartError, match="start 1 failed"):
            supervisor.wake("a")
        assert supervisor.state("a").status is EngineStatus.ASLEEP
        assert supervisor.state("a").last_error == "start 1 failed"
        supervisor.wake("a")
        assert supervisor.state("a").status is READY


def test_stopping_breaks_a_start_off() -> None:
    stage = Stage("a", lazy=True)
    with stage.supervisor() as supervisor:
        stage.engines["a"].holds_start.clear()
        failed: list[str] = []

        def wake() -> None:
            try:
                supervisor.wake("a")
            except EngineStartError as error:
                failed.append(str(error))

        waking = threading.Thread(target=wake)
        waking.start()
        stage.expect(STARTING)
        supervisor.stop("a")
        waking.join(PATIENCE_S)
        assert failed == ["ended while starting"]
        assert supervisor.state("a").status is EngineStatus.STOPPED
        assert not stage.engines["a"].running


def test_an_end_that_comes_just_before_there_is_a_process_breaks_the_start_off_too() -> None:
    stage = Stage("a", lazy=True)
    with stage.supervisor() as supervisor:
        (keeper,) = supervisor._keepers
        stage.engines["a"].before_start = keeper.shut
        with pytest.raises(EngineStartError, match="ended while starting"):
            supervisor.start("a")


def test_what_a_failed_start_leaves_is_ended() -> None:
    stage = Stage("a", lazy=True, failing_starts=(1,))
    with stage.supervisor() as supervisor:
        with pytest.raises(EngineStartError, match="start 1 failed"):
            supervisor.start("a")
        assert not stage.engines["a"].running


def test_nobody_takes_the_end_of_one_life_for_that_of_the_next() -> None:
    stage = Stage("a")
    with stage.supervisor() as supervisor:
        engine = stage.engines["a"]
        assert engine.awaited.acquire(timeout=PATIENCE_S)
        # Its keeper hears of the first end only after the second start.
        engine.holds_end.clear()
        supervisor.stop("a")
        supervisor.start("a")
        engine.holds_end.set()
        assert engine.awaited.acquire(timeout=PATIENCE_S)
    told = [stage.changes.get() for _ in range(stage.changes.qsize())]
    assert DOWN not in {state.status for state in told}


def test_a_sleeper_that_is_to_sleep_deeper_is_ended_and_never_woken_for_it() -> None:
    stage = Stage("a", levels=frozenset({1, 2}))
    with stage.supervisor() as supervisor:
        supervisor.sleep("a", 1)
        supervisor.sleep("a", 1)
        assert (supervisor.state("a").level, stage.engines["a"].running) == (1, True)
        supervisor.sleep("a", 2)
        assert (supervisor.state("a").level, stage.engines["a"].running) == (ENDED, False)
        assert stage.engines["a"].asleep == 1


def test_one_that_refuses_to_sleep_goes_on_and_one_that_refuses_to_wake_starts_afresh() -> None:
    stage = Stage("a", levels=frozenset({1}))
    with stage.supervisor() as supervisor:
        engine = stage.engines["a"]
        engine.refuses = True
        with pytest.raises(EngineMoveError, match="refused"):
            supervisor.sleep("a")
        assert supervisor.state("a").status is READY
        engine.refuses = False
        supervisor.sleep("a")
        engine.refuses = True
        with pytest.raises(EngineMoveError, match="refused"):
            supervisor.wake("a")
        stage.expect(DOWN)
        assert stage.expect(READY).restarts == 1


def test_one_that_dies_in_its_sleep_takes_no_memory_before_it_is_woken() -> None:
    stage = Stage("a", levels=frozenset({1}))
    with stage.supervisor() as supervisor:
        supervisor.sleep("a")
        stage.expect(EngineStatus.ASLEEP)
        stage.engines["a"].die()
        state = stage.expect(EngineStatus.ASLEEP)
        assert (state.level, state.last_error) == (ENDED, "ended with exit code -9")
        assert stage.engines["a"].starts == 1
        supervisor.wake("a")
        assert supervisor.state("a").status is READY


def test_one_that_lives_but_answers_nothing_is_started_again() -> None:
    stage = Stage("a")
    with stage.supervisor(timing={"probe_s": 0.001, "hang_s": 0.0}):
        stage.expect(READY)
        stage.engines["a"].silent = True
        assert "has answered nothing for 0 s" in stage.expect(DOWN).last_error
        stage.engines["a"].silent = False
        assert stage.expect(READY).restarts >= 1


@pytest.mark.parametrize("hangs", [True, False])
def test_what_mends_itself_is_only_ended_if_it_hangs(hangs: bool) -> None:
    stage = Stage("a")
    with stage.supervisor(timing={"probe_s": 0.001, "hang_s": 0.0}):
        stage.expect(READY)
        engine = stage.engines["a"]
        engine.mends = True
        stops = engine.stops
        engine.silent = hangs
        if not hangs:
            engine.die()
        stage.expect(DOWN)
        engine.silent = False
        stage.expect(READY)
        assert (engine.stops > stops) == hangs


def test_what_can_not_be_ended_says_so() -> None:
    stage = Stage("a")
    with stage.supervisor() as supervisor:
        stage.expect(READY)
        stage.engines["a"].refuses = True
        supervisor.stop("a")
        assert supervisor.state("a").last_error == "refused"
        assert supervisor.state("a").status is EngineStatus.STOPPED


def test_a_real_engine_killed_outright_answers_again_at_the_same_place(
    smollm2: LlamaSpec, tmp_path: Path
) -> None:
    changes: queue.Queue[EngineState] = queue.Queue()
    timing = Timing(backoff=Backoff(first_s=0.0))
    supervisor = Supervisor([smollm2], tmp_path, on_change=changes.put, timing=timing)
    with supervisor:
        killed = supervisor.state("smollm2").pid
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        while (state := changes.get(timeout=60)).restarts == 0 or state.status is not READY:
            pass
        assert state.last_error == "ended with exit code -9"
        url = supervisor.base_url("smollm2") + "/completions"
        body = {"prompt": "The capital of France is", "max_tokens": 1, "temperature": 0}
        answer = httpx2.post(url, json=body, timeout=60).json()
        assert answer["choices"][0]["text"] == " Paris"
        assert state.pid not in (killed, None)


def test_engines_come_and_go_while_others_run() -> None:
    stage, more = Stage("a"), Stage("b", "c")
    with stage.supervisor() as supervisor:
        supervisor.add(more.specs)
        assert [state.status for state in supervisor.states()] == [READY] * 3
        supervisor.remove("b")
        assert more.engines["b"].closed
        assert [state.expert_id for state in supervisor.states()] == ["a", "c"]
        broken = Stage("d", "e", failing_starts=(1,))
        with pytest.raises(EngineStartError, match="start 1 failed"):
            supervisor.add(broken.specs)
        assert all(engine.closed for engine in broken.engines.values())
        assert [state.expert_id for state in supervisor.states()] == ["a", "c"]
        more.engines["c"].die()
        stage.expect(DOWN)
        assert stage.expect(READY).restarts == 1, "whoever came later is looked after too"
    assert more.engines["c"].closed
