"""Engines without processes, and a supervisor whose clock and waits are a test's."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from experts.engines.keeper import Backoff, Timing
from experts.engines.load import EngineLoad
from experts.engines.states import EngineState, EngineStatus
from experts.engines.supervisor import Supervisor
from experts.errors import EngineMoveError, EngineStartError

PATIENCE_S = 60


@dataclass(frozen=True)
class FakeSpec:
    """An engine that a test holds in its hands, see `Stage`."""

    expert_id: str
    engines: dict[str, FakeEngine]
    failing_starts: Sequence[int] = ()
    levels: frozenset[int] = frozenset()
    lazy: bool = False
    adapters: Mapping[str, str] = field(default_factory=dict)
    optional: bool = False
    ready_s: float = 1.0

    @property
    def serves(self) -> tuple[str, ...]:
        return (self.expert_id, *self.adapters)

    def engine(self, log_dir: Path) -> FakeEngine:
        self.engines[self.expert_id] = FakeEngine(self)
        return self.engines[self.expert_id]


class FakeEngine:
    """An engine without a process: it fails the starts that it is told to, and dies on demand."""

    def __init__(self, spec: FakeSpec) -> None:
        self.spec = spec
        self.levels = spec.levels
        self.base_url = f"http://127.0.0.1:1/{spec.expert_id}/v1"
        self.pid = None
        self.api_key = None
        self.mends = False
        self.faults: dict[str, str] = {}
        self.starts = 0
        self.stops = 0
        self.asleep = 0
        self.closed = False
        self.silent = False
        self.refuses = False
        self.before_start: Callable[[], None] = lambda: None
        self.holds_start = threading.Event()
        self.holds_start.set()
        self.awaited = threading.Semaphore(0)
        self.holds_end = threading.Event()
        self.holds_end.set()
        self.loads: list[EngineLoad] = []
        self._over = threading.Event()
        self._over.set()

    @property
    def running(self) -> bool:
        return not self._over.is_set()

    def start(self) -> None:
        assert not self.closed
        self.before_start()
        self.starts += 1
        self._over.clear()

    def wait_ready(self, timeout_s: float) -> None:
        assert self.holds_start.wait(PATIENCE_S)
        if self.starts in self.spec.failing_starts:
            raise EngineStartError(f"start {self.starts} failed")
        if not self.running:
            raise EngineStartError("ended while starting")

    def wait_end(self, timeout_s: float | None = None) -> str | None:
        self.awaited.release()
        over = self._over.wait(PATIENCE_S if timeout_s is None else timeout_s)
        assert self.holds_end.wait(PATIENCE_S)
        return "ended with exit code -9" if over else None

    def answers(self, timeout_s: float) -> bool:
        return not self.silent

    def load(self) -> EngineLoad | None:
        return self.loads.pop(0) if self.loads else None

    def sleep(self, level: int) -> None:
        if self.refuses:
            raise EngineMoveError("refused")
        self.asleep = level

    def wake(self) -> None:
        if self.refuses:
            raise EngineMoveError("refused")
        self.asleep = 0

    def take(self, expert_id: str) -> None:
        self.faults.pop(expert_id)

    def serve(self, adapters: Mapping[str, str], *, awake: bool) -> None:
        self.spec = replace(self.spec, adapters=adapters)

    def drop(self, expert_id: str) -> None:
        self.faults[expert_id] = "dropped"

    def die(self) -> None:
        self._over.set()

    def stop(self) -> None:
        self.stops += 1
        self._over.set()
        self.holds_start.set()
        if self.refuses:
            raise EngineMoveError("refused")

    def close(self) -> None:
        self.closed = True


class Stage:
    """A supervisor's engines, clock and waits, all in the hands of a test."""

    def __init__(self, *names: str, **options: Any) -> None:
        self.engines: dict[str, FakeEngine] = {}
        self.specs = [FakeSpec(name, self.engines, **options) for name in names]
        self.changes: queue.Queue[EngineState] = queue.Queue()
        self.waited: list[float] = []
        self.now = 0.0

    def supervisor(self, backoff: Backoff | None = None, **options: Any) -> Supervisor:
        times: dict[str, Any] = {"clock": lambda: self.now, "wait": self._wait}
        timing = Timing(backoff=backoff or Backoff(), **{**times, **options.pop("timing", {})})
        return Supervisor(
            self.specs, Path("logs"), on_change=self.changes.put, timing=timing, **options
        )

    def expect(self, status: EngineStatus) -> EngineState:
        """The next change to that status."""
        while True:
            state = self.changes.get(timeout=PATIENCE_S)
            if state.status is status:
                return state

    def _wait(self, stopping: threading.Event, seconds: float) -> bool:
        self.waited.append(seconds)
        return stopping.is_set()
