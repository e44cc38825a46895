"""Keeps local engines running: starts them together, restarts one that dies, ends them all."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from experts.engine import Engine, EngineSpec
from experts.errors import EngineStartError


class EngineStatus(StrEnum):
    """What an engine is doing."""

    STARTING = "starting"
    READY = "ready"
    DOWN = "down"
    """It ended or failed to start, and waits to be started again."""
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class EngineState:
    """One engine at one moment, for health pages.

    Attributes:
        expert_id: Whose engine it is.
        base_url: Where it answers; the same over restarts.
        status: What it is doing.
        restarts: How often it was started again.
        last_error: Why it was last down, "" if it never was.
    """

    expert_id: str
    base_url: str
    status: EngineStatus = EngineStatus.STARTING
    restarts: int = 0
    last_error: str = ""


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before the next start: doubling from `first_s` up to `most_s`.

    An engine that was ready for `forgive_s` starts again from `first_s`.
    """

    first_s: float = 0.5
    most_s: float = 30.0
    forgive_s: float = 60.0

    def delay_s(self, failures: int) -> float:
        """Seconds to wait after the `failures`-th failure in a row, counted from 1."""
        # Beyond 2^16 every sensible `most_s` is reached; a float would overflow in the end.
        return float(min(self.most_s, self.first_s * 2 ** min(failures - 1, 16)))


class SupervisedEngine(Protocol):
    """What the supervisor needs of an engine, see `experts.engine.Engine`."""

    @property
    def spec(self) -> EngineSpec: ...
    @property
    def base_url(self) -> str: ...
    def start(self) -> None: ...
    def wait_ready(self, timeout_s: float) -> None: ...
    def wait_exit(self) -> int | None: ...
    def stop(self) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Timing:
    """The supervisor's clock and patience; tests put in their own.

    Attributes:
        ready_s: How long an engine may take from start to first token.
        backoff: Waits between starts.
        clock: Monotonic seconds.
        wait: Waits for the event or so many seconds; True if the event came.
    """

    ready_s: float = 120.0
    backoff: Backoff = field(default_factory=Backoff)
    clock: Callable[[], float] = time.monotonic
    wait: Callable[[threading.Event, float], bool] = threading.Event.wait


Listener = Callable[[EngineState], None]


class Supervisor:
    """Runs engines for as long as the `with` block lasts.

    Entering starts all engines at once and returns when each has written its first token. From
    then on a thread per engine waits for it to end and starts it again on the same port.

    Args:
        specs: The engines to run.
        log_dir: Where each engine's output goes, one file per engine.
        on_change: Told every new state, from the supervisor's threads, one at a time; it must
            neither raise nor take long.
        timing: Waits and clock.
        make_engine: Builds an engine from its spec and the log folder.

    Raises:
        EngineStartError: On entering, when an engine does not come up; none is left running then.
    """

    def __init__(
        self,
        specs: Sequence[EngineSpec],
        log_dir: Path,
        *,
        on_change: Listener | None = None,
        timing: Timing | None = None,
        make_engine: Callable[[EngineSpec, Path], SupervisedEngine] = Engine,
    ) -> None:
        self._stopping = threading.Event()
        self._engines = {spec.expert_id: make_engine(spec, log_dir) for spec in specs}
        lock = threading.Lock()
        self._keepers = [
            _Keeper(engine, self._stopping, timing or Timing(), _one_at_a_time(on_change, lock))
            for engine in self._engines.values()
        ]

    def __enter__(self) -> Self:
        try:
            for keeper in self._keepers:
                keeper.thread.start()
            for keeper in self._keepers:
                keeper.await_first_start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def base_url(self, expert_id: str) -> str:
        """Where that engine answers, `http://…/v1`."""
        return self._engines[expert_id].base_url

    def states(self) -> tuple[EngineState, ...]:
        """The engines' states now, in the order of their specs."""
        return tuple(keeper.state for keeper in self._keepers)

    def close(self) -> None:
        """Stop every engine and thread; calling it twice is fine."""
        self._stopping.set()
        for keeper in self._keepers:
            keeper.engine.stop()
        for keeper in self._keepers:
            if keeper.thread.is_alive():
                keeper.thread.join()
            keeper.engine.close()


class _Keeper:
    """The thread that looks after one engine."""

    def __init__(
        self,
        engine: SupervisedEngine,
        stopping: threading.Event,
        timing: Timing,
        tell: Listener,
    ) -> None:
        self.engine = engine
        self.state = EngineState(engine.spec.expert_id, engine.base_url)
        self.thread = threading.Thread(target=self._keep, name=f"keep-{engine.spec.expert_id}")
        self.thread.daemon = True
        self._stopping = stopping
        self._timing = timing
        self._tell = tell
        self._started_once = threading.Event()
        self._first_error: EngineStartError | None = None

    def await_first_start(self) -> None:
        self._started_once.wait()
        if self._first_error:
            raise self._first_error

    def _keep(self) -> None:
        failures = 0
        try:
            while not self._stopping.is_set():
                ready_s = self._serve()
                failures = 1 if ready_s >= self._timing.backoff.forgive_s else failures + 1
                if self._timing.wait(self._stopping, self._timing.backoff.delay_s(failures)):
                    break
                self._change(status=EngineStatus.STARTING, restarts=self.state.restarts + 1)
        finally:
            self.engine.stop()
            self._started_once.set()
            self._change(status=EngineStatus.STOPPED)

    def _serve(self) -> float:
        """One life of the engine; how many seconds it was ready."""
        try:
            self.engine.start()
            # `close` sets the flag before it stops engines: one of us two sees this process.
            if self._stopping.is_set():
                return 0.0
            self.engine.wait_ready(self._timing.ready_s)
        except EngineStartError as error:
            self._note_failed_start(error)
            return 0.0
        ready_at = self._timing.clock()
        self._change(status=EngineStatus.READY)
        self._started_once.set()
        code = self.engine.wait_exit()
        if not self._stopping.is_set():
            self._change(status=EngineStatus.DOWN, last_error=f"ended with exit code {code}")
        return self._timing.clock() - ready_at

    def _note_failed_start(self, error: EngineStartError) -> None:
        self.engine.stop()
        if not self._started_once.is_set():
            self._first_error = error
        self._change(status=EngineStatus.DOWN, last_error=str(error))
        self._started_once.set()

    def _change(self, **changes: Any) -> None:
        self.state = replace(self.state, **changes)
        self._tell(self.state)


def _one_at_a_time(listener: Listener | None, lock: threading.Lock) -> Listener:
    def tell(state: EngineState) -> None:
        if listener:
            with lock:
                listener(state)

    return tell
