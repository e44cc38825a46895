"""Engines start together, are started again when they die, and never outlive their supervisor."""

from __future__ import annotations

import os
import queue
import signal
import threading
from collections.abc import Sequence
from pathlib import Path

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experts.engine import Engine, EngineSpec
from experts.errors import EngineStartError
from experts.supervisor import Backoff, EngineState, EngineStatus, Supervisor, Timing

PATIENCE_S = 20
READY, DOWN, STARTING = EngineStatus.READY, EngineStatus.DOWN, EngineStatus.STARTING


class FakeEngine:
    """An engine without a process: it fails the starts that it is told to, and dies on demand."""

    def __init__(self, spec: EngineSpec, failing_starts: Sequence[int] = ()) -> None:
        self.spec = spec
        self.base_url = f"http://127.0.0.1:1/{spec.expert_id}/v1"
        self.starts = 0
        self.closed = False
        self._failing_starts = failing_starts
        self._over = threading.Event()

    @property
    def running(self) -> bool:
        return self.starts > 0 and not self._over.is_set()

    def start(self) -> None:
        assert not self.closed
        self.starts += 1
        self._over.clear()

    def wait_ready(self, timeout_s: float) -> None:
        if self.starts in self._failing_starts:
            raise EngineStartError(f"start {self.starts} failed")

    def wait_exit(self) -> int | None:
        assert self._over.wait(PATIENCE_S)
        return -9

    def die(self) -> None:
        self._over.set()

    stop = die

    def close(self) -> None:
        self.stop()
        self.closed = True


class Stage:
    """A supervisor's engines, clock and waits, all in the hands of a test."""

    def __init__(self, *names: str, failing_starts: Sequence[int] = ()) -> None:
        self.specs = [EngineSpec(name, Path(f"{name}.gguf")) for name in names]
        self.engines: dict[str, FakeEngine] = {}
        self.changes: queue.Queue[EngineState] = queue.Queue()
        self.waited: list[float] = []
        self.now = 0.0
        self._failing_starts = failing_starts

    def supervisor(self, backoff: Backoff | None = None) -> Supervisor:
        timing = Timing(backoff=backoff or Backoff(), clock=lambda: self.now, wait=self._wait)
        return Supervisor(
            self.specs,
            Path("logs"),
            on_change=self.changes.put,
            timing=timing,
            make_engine=self._make,
        )

    def expect(self, status: EngineStatus) -> EngineState:
        """The next change to that status."""
        while True:
            state = self.changes.get(timeout=PATIENCE_S)
            if state.status is status:
                return state

    def _make(self, spec: EngineSpec, log_dir: Path) -> FakeEngine:
        self.engines[spec.expert_id] = FakeEngine(spec, self._failing_starts)
        return self.engines[spec.expert_id]

    def _wait(self, stopping: threading.Event, seconds: float) -> bool:
        self.waited.append(seconds)
        return stopping.is_set()


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
    broken = Supervisor(
        stage.specs,
        Path("logs"),
        timing=Timing(backoff=Backoff(first_s=3600, most_s=3600)),
        make_engine=lambda spec, _: stage.engines.setdefault(
            spec.expert_id, FakeEngine(spec, (1,) if spec.expert_id == "b" else ())
        ),
    )
    with pytest.raises(EngineStartError, match="start 1 failed"), broken:
        pytest.fail("entered")
    assert [engine.closed for engine in stage.engines.values()] == [True, True]
    assert [engine.starts for engine in stage.engines.values()] == [1, 1]


def test_waiting_to_start_again_ends_when_the_supervisor_closes() -> None:
    stage = Stage("a")
    patient = Supervisor(
        stage.specs,
        Path("logs"),
        on_change=stage.changes.put,
        timing=Timing(backoff=Backoff(first_s=3600, most_s=3600)),
        make_engine=lambda spec, _: stage.engines.setdefault(spec.expert_id, FakeEngine(spec)),
    )
    with patient:
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

    def make(spec: EngineSpec, log_dir: Path) -> FakeEngine:
        return FakeEngine(spec)

    with Supervisor(stage.specs, Path("logs"), on_change=listen, make_engine=make):
        pass
    told = [stage.changes.get_nowait().status for _ in range(6)]
    assert sorted(told) == [READY] * 3 + [EngineStatus.STOPPED] * 3
    assert stage.changes.empty()


@given(st.integers(1, 10_000), st.floats(0.01, 10), st.floats(10, 1000))
def test_waits_grow_up_to_a_bound(failures: int, first_s: float, most_s: float) -> None:
    backoff = Backoff(first_s, most_s)
    assert backoff.delay_s(1) == first_s
    assert first_s <= backoff.delay_s(failures) <= backoff.delay_s(failures + 1) <= most_s


def test_a_real_engine_killed_outright_answers_again_at_the_same_place(
    smollm2: EngineSpec, tmp_path: Path
) -> None:
    engines: list[Engine] = []

    def make(spec: EngineSpec, log_dir: Path) -> Engine:
        engines.append(Engine(spec, log_dir))
        return engines[-1]

    changes: queue.Queue[EngineState] = queue.Queue()
    timing = Timing(backoff=Backoff(first_s=0.0))
    supervisor = Supervisor(
        [smollm2], tmp_path, on_change=changes.put, timing=timing, make_engine=make
    )
    with supervisor:
        killed = engines[0].pid
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        while (state := changes.get(timeout=60)).restarts == 0 or state.status is not READY:
            pass
        assert state.last_error == "ended with exit code -9"
        url = supervisor.base_url("smollm2") + "/completions"
        body = {"prompt": "The capital of France is", "max_tokens": 1, "temperature": 0}
        answer = httpx2.post(url, json=body, timeout=60).json()
        assert answer["choices"][0]["text"] == " Paris"
        assert engines[0].pid != killed
    assert not engines[0].alive
