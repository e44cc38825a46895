"""Looks after one engine: starts it, restarts it when it dies or hangs, moves it when told to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from experts.engines.base import Engine
from experts.engines.states import ENDED, EngineState, EngineStatus
from experts.errors import EngineMoveError, EngineStartError

Listener = Callable[[EngineState], None]
Drain = Callable[[str, float], None]
"""Sees to it that an engine gets no new calls, and returns when it has none left or so many seconds
have passed."""

_POLL_S = 0.05


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


@dataclass(frozen=True, slots=True)
class Timing:
    """A keeper's clock and patience; tests put in their own.

    Attributes:
        drain_s: How long calls under way may take before it sleeps or stops all the same.
        probe_s: How often a ready engine is asked whether it still works.
        probe_timeout_s: How long it may take to say so.
        hang_s: After so long without an answer to any of them it is taken to hang. A server that
            compiles a kernel says nothing for a minute either.
        backoff: Waits between starts.
        clock: Monotonic seconds.
        wait: Waits for the event or so many seconds; True if the event came.
    """

    drain_s: float = 60.0
    probe_s: float = 10.0
    probe_timeout_s: float = 10.0
    hang_s: float = 180.0
    backoff: Backoff = field(default_factory=Backoff)
    clock: Callable[[], float] = time.monotonic
    wait: Callable[[threading.Event, float], bool] = threading.Event.wait


class Keeper:
    """One engine and the thread that starts it again.

    Moves (`start`, `stop`, `sleep`, `wake`) run in the thread that asks for them, one at a time,
    and the keeper's own thread waits for the process to end. Whether a process is wanted at all is
    a flag: it is lowered before a process is ended on purpose, so that nobody takes its end for a
    failure.

    Args:
        engine: Whom to look after.
        timing: Waits and clock.
        tell: Told every new state.
        drain: Told to keep calls away before the engine sleeps or stops.
    """

    def __init__(
        self,
        engine: Engine,
        timing: Timing,
        tell: Listener,
        drain: Drain | None,
    ) -> None:
        self.engine = engine
        spec = engine.spec
        self.state = EngineState(spec.expert_id, engine.base_url, serves=spec.serves)
        self._closing = threading.Event()
        self._timing = timing
        self._tell = tell
        self._drain = drain
        self._moving = threading.Lock()
        self._wanted = threading.Event()
        self._lives = 0
        self._ready_at = 0.0
        self._started_once = threading.Event()
        self._first_error: EngineStartError | None = None
        self._thread = threading.Thread(target=self._keep, name=f"keep-{spec.expert_id}")
        self._thread.daemon = True
        if spec.lazy:
            self.state = replace(self.state, status=EngineStatus.ASLEEP, level=ENDED)
            self._started_once.set()
        else:
            self._wanted.set()

    def begin(self) -> None:
        """Start the engine, unless it is a lazy one, in the keeper's thread."""
        self._thread.start()
        if self.engine.spec.optional:
            self._started_once.set()

    def await_first_start(self) -> None:
        """Wait for what `begin` began.

        Raises:
            EngineStartError: The engine did not come up.
        """
        self._started_once.wait()
        if self._first_error:
            raise self._first_error

    def start(self, expert_id: str) -> None:
        """Make it ready, whatever it is doing; see `Supervisor.start`."""
        with self._moving:
            self._up()
            if expert_id in self.state.faults:
                self.engine.take(expert_id)
                self._change(faults=dict(self.engine.faults))

    def wake(self) -> None:
        """Make it ready, unless somebody stopped it; see `Supervisor.wake`."""
        with self._moving:
            if self.state.status is EngineStatus.STOPPED:
                raise self._refusal("it is stopped and can't wake; start it")
            self._up()

    def drop(self, expert_id: str) -> None:
        """Answer no more for one expert of several; see `Supervisor.stop`."""
        with self._moving:
            if self.state.status is not EngineStatus.READY:
                raise self._refusal(f"it is {self.state.status} and can't let go of {expert_id!r}")
            self.engine.drop(expert_id)
            self._change(faults=dict(self.engine.faults))

    def serve(self, adapters: Mapping[str, str]) -> None:
        """Answer for these adapters and no others; see `Supervisor.serve`."""
        with self._moving:
            if dict(self.engine.spec.adapters) != dict(adapters):
                self.engine.serve(adapters, awake=self.state.status is EngineStatus.READY)
                serves, faults = self.engine.spec.serves, dict(self.engine.faults)
                self._change(serves=serves, faults=faults)

    def stop(self) -> None:
        """End it and leave it so; see `Supervisor.stop`."""
        if self.state.status is EngineStatus.STARTING:
            self._wanted.clear()
            self._halt()
        with self._moving:
            self._empty()
            self._end()
            self._change(status=EngineStatus.STOPPED, level=0, pid=None)

    def sleep(self, level: int) -> None:
        """Put it to sleep; see `Supervisor.sleep`."""
        with self._moving:
            status, now = self.state.status, self.state.level
            depth = min((each for each in self.engine.levels if each >= level), default=ENDED)
            if status is EngineStatus.ASLEEP:
                if now >= level:
                    return
                # From one level to the other an engine would have to wake first.
                depth = ENDED
            elif status is not EngineStatus.READY:
                raise self._refusal(f"it is {status} and can't go to sleep")
            self._empty()
            begun = self._timing.clock()
            if depth == ENDED:
                self._end()
            else:
                self._sleep_alive(depth)
            sleep_s = self._timing.clock() - begun
            pid = None if depth == ENDED else self.engine.pid
            self._change(status=EngineStatus.ASLEEP, level=depth, pid=pid, sleep_s=sleep_s)

    def shut(self) -> None:
        """End its process at once, for good."""
        self._closing.set()
        self._wanted.set()
        self._halt()

    def join(self) -> None:
        """Wait for the keeper's thread to end, and give back what the engine holds."""
        if self._thread.is_alive():
            self._thread.join()
        self.engine.close()

    def _up(self) -> None:
        if self.state.status is EngineStatus.READY:
            return
        if self.state.status is EngineStatus.ASLEEP and self.state.level != ENDED:
            self._wake_alive()
            return
        before = self.state
        self._wanted.set()
        try:
            self._launch(wakes=before.wakes + (before.status is EngineStatus.ASLEEP))
        except EngineStartError as error:
            if before.status in (EngineStatus.STARTING, EngineStatus.DOWN):
                self._note_down(str(error))
            else:
                self._wanted.clear()
                self._change(status=before.status, level=before.level, last_error=str(error))
            raise

    def _wake_alive(self) -> None:
        begun = self._timing.clock()
        self._change(status=EngineStatus.WAKING, wakes=self.state.wakes + 1)
        try:
            self.engine.wake()
            self.engine.wait_ready(self.engine.spec.ready_s)
        except (EngineMoveError, EngineStartError) as error:
            # Nobody knows what it is now; its keeper starts it afresh.
            self._note_down(str(error))
            self._halt()
            raise
        self._now_ready(wake_s=self._timing.clock() - begun)

    def _sleep_alive(self, level: int) -> None:
        try:
            self.engine.sleep(level)
        except EngineMoveError as error:
            self._change(status=EngineStatus.READY, last_error=str(error))
            raise

    def _launch(self, **changes: Any) -> None:
        """Start the process and wait for its first token; what a failed start leaves is ended."""
        begun = self._timing.clock()
        self._lives += 1
        self._change(status=EngineStatus.STARTING, level=0, **changes)
        try:
            self.engine.start()
            # Flags are set before engines are stopped: one of us two sees this process.
            if self._unwanted():
                self._halt()
            self.engine.wait_ready(self.engine.spec.ready_s)
        except EngineStartError:
            self._halt()
            raise
        self._now_ready(start_s=self._timing.clock() - begun)

    def _now_ready(self, **took: float) -> None:
        self._ready_at = self._timing.clock()
        faults = dict(self.engine.faults)
        self._change(status=EngineStatus.READY, level=0, pid=self.engine.pid, faults=faults, **took)

    def _empty(self) -> None:
        """Wait until it has no calls, if it takes any."""
        if self.state.status is not EngineStatus.READY:
            return
        self._change(status=EngineStatus.DRAINING)
        until = self._timing.clock() + self._timing.drain_s
        if self._drain:
            self._drain(self.state.expert_id, self._timing.drain_s)
        while (load := self.engine.load()) and load.under_way and self._timing.clock() < until:
            if self._timing.wait(self._closing, _POLL_S):
                return

    def _halt(self) -> None:
        try:
            self.engine.stop()
        except EngineMoveError as error:
            self._change(last_error=str(error))

    def _end(self) -> None:
        self._wanted.clear()
        self._halt()

    def _unwanted(self) -> bool:
        return self._closing.is_set() or not self._wanted.is_set()

    def _keep(self) -> None:
        failures = 0
        try:
            while not self._closing.is_set():
                self._wanted.wait()
                ready_s = self._live()
                if self._unwanted() or ready_s is None:
                    continue
                failures = 1 if ready_s >= self._timing.backoff.forgive_s else failures + 1
                if self._timing.wait(self._closing, self._timing.backoff.delay_s(failures)):
                    break
        finally:
            self._halt()
            self._started_once.set()
            self._change(status=EngineStatus.STOPPED, level=0, pid=None)

    def _live(self) -> float | None:
        """One life of the engine; how many seconds it was ready, None if it ended on purpose."""
        with self._moving:
            if self._unwanted():
                return None
            if self.state.status in (EngineStatus.STARTING, EngineStatus.DOWN):
                try:
                    self._launch(restarts=self.state.restarts + (self._lives > 0))
                except EngineStartError as error:
                    self._note_failed_start(error)
                    return 0.0
                self._started_once.set()
            life = self._lives
        why, is_there = self._await_end(life)
        with self._moving:
            if self._unwanted() or self._lives != life:
                return None
            if self.state.status is EngineStatus.ASLEEP:
                # Whoever put it to sleep wants its memory: it is started when it is woken.
                self._end()
                self._change(level=ENDED, pid=None, last_error=why)
                return None
            if self.state.status is not EngineStatus.DOWN:
                self._note_down(why)
            if is_there or not self.engine.mends:
                self._halt()
            return self._timing.clock() - self._ready_at

    def _await_end(self, life: int) -> tuple[str, bool]:
        """Block until it must be started again; why, and whether it is still there."""
        silent_since: float | None = None
        while silent_since is None or self._timing.clock() - silent_since < self._timing.hang_s:
            end = self.engine.wait_end(self._timing.probe_s)
            if end is not None:
                return end, False
            if self._unwanted() or self._lives != life:
                return "", False
            asked_at = self._timing.clock()
            asked = self.state.status is EngineStatus.READY
            try:
                answered = not asked or self.engine.answers(self._timing.probe_timeout_s)
            except EngineStartError as error:
                return str(error), True
            if answered:
                silent_since = None
            elif silent_since is None:
                silent_since = asked_at
        return f"runs, but has answered nothing for {self._timing.hang_s:g} s", True

    def _note_failed_start(self, error: EngineStartError) -> None:
        if self._closing.is_set() or not self._unwanted():
            self._note_down(str(error))
        if not self._started_once.is_set():
            self._first_error = None if self.engine.spec.optional else error
            self._started_once.set()

    def _note_down(self, why: str) -> None:
        self._change(status=EngineStatus.DOWN, level=0, pid=None, last_error=why)

    def _change(self, **changes: Any) -> None:
        state = replace(self.state, **changes)
        if state != self.state:
            self.state = state
            self._tell(state)

    def _refusal(self, why: str) -> EngineMoveError:
        return EngineMoveError(f"engine {self.state.expert_id!r}: {why}")
