"""Looks after engines that share fast memory: orders what the planner plans, as far as it can be.

The planner thinks in instants; here sleeping and waking take their time, and calls are made by
several processes that hear of it a moment later. No I/O and no clock: whoever owns the engines
tells what happened and carries out what is ordered.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from experts.engines.states import EngineState, EngineStatus
from experts.residency.planner import ResidencyPlanner, View

Move = Literal["sleep", "wake", "start"]
_LIGHTEST, _DEEPER = 1, 2
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 2.0, 60.0
_RESTING = (EngineStatus.ASLEEP, EngineStatus.STOPPED)
_RISING = (EngineStatus.STARTING, EngineStatus.WAKING, EngineStatus.DOWN)


class Order(NamedTuple):
    """What is to be done with an engine now; `done` wants to hear of its end.

    Attributes:
        move: What.
        engine: Its expert's id.
        level: How deep it is to sleep, see `experts.engines.states.EngineState`.
    """

    move: Move
    engine: str
    level: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """How one process that makes calls stands; each replaces the one before.

    Attributes:
        seen: The number of the last news that it heeds.
        calls: Engine to calls under way or certain to be made.
        waits: Engine to when each request that waits for it came, oldest first.
    """

    seen: int = 0
    calls: Mapping[str, int] = field(default_factory=dict)
    waits: Mapping[str, Sequence[float]] = field(default_factory=dict)


class Door(NamedTuple):
    """What processes that make calls have to know of an engine.

    Attributes:
        open: Whether calls may be made.
        status: Of the engine.
        level: How deep it sleeps.
        why: Of an engine that is down: the reason.
        wait_s: Seconds that waking is expected to take, of one that sleeps.
        ready_at: When one that wakes is expected to be awake, monotonic seconds; else 0.
        missing: Its experts that it can't answer for though it is awake, and why.
    """

    open: bool
    status: str
    level: int
    why: str
    wait_s: float
    ready_at: float
    missing: Mapping[str, str] = {}


class _Fault(NamedTuple):
    """A move failed: until then nobody tries again, and doubles the pause if that fails too."""

    until: float
    pause_s: float
    why: str


class Steward:
    """What of the engines is awake, what is to move, and who may be called meanwhile.

    An engine falls asleep when no process makes calls of it any more: it is shut first, and every
    process has said that it heeds that. One wakes when there is room for it, not only planned.

    Args:
        planner: Decides about the engines that take turns; the others are woken when asked.
        host: Memory of the host for the weights of those that sleep lightly, in the planner's unit.
        wake_s: What waking is taken to need until it was measured.
    """

    def __init__(
        self,
        planner: ResidencyPlanner,
        *,
        host: float = math.inf,
        wake_s: float = 30.0,
    ) -> None:
        self._planner = planner
        self._host = host
        self._wake_s = wake_s
        self._states: dict[str, EngineState] = {}
        self._reports: dict[int, Report] = {}
        self._moves: dict[str, Order] = {}
        self._rising: set[str] = set()
        self._held: set[str] = set()
        self._wished: dict[str, float] = {}
        self._rose_at: dict[str, float] = {}
        self._ready_at: dict[str, float] = {}
        self._faults: dict[str, _Fault] = {}
        self._broken: set[str] = set()
        self._told: dict[str, Door] = {}
        self._shut_at: dict[str, int] = {}
        self.number = 0

    # What happens.

    def changed(self, state: EngineState, at: float) -> None:
        """An engine is in another state now."""
        name = state.expert_id
        self._states[name] = state
        status = state.status
        if status is EngineStatus.DOWN:
            self._broken.add(name)
        elif status is not EngineStatus.STARTING:
            self._broken.discard(name)
        if status is EngineStatus.READY:
            self._wished.pop(name, None)
            rose_at = self._rose_at.pop(name, None)
            if rose_at is not None and name in self._planner.experts:
                self._planner.woke(name, at, at - rose_at)
        elif status is EngineStatus.ASLEEP and name in self._planner.experts:
            self._planner.sleeps(name, self.wake_s(name))
        elif status is EngineStatus.STOPPED:
            if name not in self._moves:
                self._wished.pop(name, None)
            if name in self._planner.experts:
                self._planner.forget(name)
        elif status in _RISING and name not in self._rose_at:
            self._rises(name, at, state.start_s)

    def gone(self, engine: str) -> None:
        """An engine is there no more."""
        for known in (self._states, self._moves, self._rose_at, self._ready_at, self._faults):
            known.pop(engine, None)
        for name in (self._rising, self._broken, self._held):
            name.discard(engine)
        self._wished.pop(engine, None)

    def heard(self, process: int, report: Report) -> None:
        """A process says how it stands."""
        self._reports[process] = report

    def left(self, process: int) -> None:
        """A process is gone, and its calls with it."""
        self._reports.pop(process, None)

    def asked(self, engine: str, at: float, weight: float) -> None:
        """A decision gave it this probability."""
        if engine in self._planner.experts and not self._barred(engine, at):
            self._planner.asked(engine, at, weight)

    def wish(self, engine: str, at: float) -> None:
        """Somebody wants it awake by hand; a stopped one is started."""
        if self._status(engine) is not EngineStatus.READY or engine in self._moves:
            self._wished.setdefault(engine, at)

    def wished(self, engine: str) -> bool:
        """Whether somebody does, and nobody stopped it since."""
        return engine in self._wished

    def send_to_sleep(self, engine: str) -> Order:
        """Somebody wants it asleep by hand, until it is asked again."""
        self._wished.pop(engine, None)
        if engine in self._planner.experts:
            self._planner.forget(engine)
        return self._sleeping(engine)

    def done(self, order: Order, at: float, error: str = "") -> None:
        """An order was carried out, or could not be, because of an error."""
        name = order.engine
        self._moves.pop(name, None)
        if not error:
            self._faults.pop(name, None)
            return
        self._wished.pop(name, None)
        self._rose_at.pop(name, None)
        if name in self._planner.experts:
            self._planner.forget(name)
        pause_s = 2 * self._faults[name].pause_s if name in self._faults else _FIRST_PAUSE_S
        pause_s = min(pause_s, _LONGEST_PAUSE_S)
        self._faults[name] = _Fault(at + pause_s, pause_s, error)

    # What follows.

    def step(self, at: float) -> list[Order]:
        """What to begin now; call it whenever anything happened, and at `due_at`."""
        # Where whoever was to make room does not, it is planned anew who does.
        self._rising = {name for name in self._rising if self._fits(name, soon=True)}
        view = self._view(at)
        moves = self._planner.plan(at, view)
        self._held = set(moves.drain)
        orders = [self._sleeping(name) for name in moves.sleep]
        self._rising |= {*moves.wake, *self._wanted_unplanned(view)}
        orders += self._wakes(at)
        return orders

    def due_at(self, at: float) -> float:
        """When to step again though nothing happens."""
        pauses = [fault.until for fault in self._faults.values() if fault.until > at]
        return min(self._planner.due_at(at, self._view(at)), *pauses, math.inf)

    def news(self, at: float) -> dict[str, Door]:
        """What processes have to know; `number` grows whenever it is something new."""
        doors = {name: self._door(state, at) for name, state in self._states.items()}
        if doors != self._told:
            self.number += 1
            for name, door in doors.items():
                if not door.open and (name not in self._told or self._told[name].open):
                    self._shut_at[name] = self.number
            self._told = doors
        return doors

    def idle(self, engine: str) -> bool:
        """Whether no process makes calls of an engine that was shut, nor will."""
        if engine not in self._told:
            # Of one that is gone nobody does.
            return True
        shut_at = self._shut_at.get(engine, 0)
        return not self._told[engine].open and all(
            report.seen >= shut_at and not report.calls.get(engine)
            for report in self._reports.values()
        )

    def wake_s(self, engine: str) -> float:
        """Seconds that waking is expected to take from where it is."""
        state = self._states.get(engine)
        if state is None:
            return self._wake_s
        measured = (state.wake_s, state.start_s)
        by_depth = measured if state.level in (_LIGHTEST, _DEEPER) else measured[::-1]
        return next((seconds for seconds in by_depth if seconds is not None), self._wake_s)

    def calls(self, engine: str) -> int:
        """Calls of it under way, in all processes."""
        return sum(report.calls.get(engine, 0) for report in self._reports.values())

    def waiting(self, engine: str) -> int:
        """Requests that wait for it, in all processes."""
        return sum(len(report.waits.get(engine, ())) for report in self._reports.values())

    def _barred(self, name: str, at: float) -> bool:
        """Whether it is left alone, because somebody stopped it or it failed to wake."""
        faulty = name in self._faults and at < self._faults[name].until
        return faulty or self._status(name) is EngineStatus.STOPPED

    def _status(self, engine: str) -> EngineStatus | None:
        state = self._states.get(engine)
        return None if state is None else state.status

    def _rises(self, name: str, at: float, takes_s: float | None) -> None:
        self._rose_at[name] = at
        self._ready_at[name] = at + (self._wake_s if takes_s is None else takes_s)

    def _view(self, at: float) -> View:
        awake, moving, waiting = {}, set(self._rising & self._planner.experts), {}
        for name in self._planner.experts:
            status, move = self._status(name), self._moves.get(name)
            if move is not None and move.move != "sleep":
                moving.add(name)
            elif status is EngineStatus.READY and move is None:
                awake[name] = self.calls(name)
            elif status in _RISING:
                moving.add(name)
        for name in self._states:
            if times := self._waits(name, at):
                waiting[name] = times
        return View(awake, frozenset(moving), waiting, frozenset(moving & self._broken))

    def _waits(self, name: str, at: float) -> list[float]:
        times: list[float] = []
        if not self._barred(name, at):
            times = sorted(
                time for report in self._reports.values() for time in report.waits.get(name, ())
            )
        if name in self._wished:
            # Who wishes by hand does not wait for others to gather.
            times.insert(0, self._wished[name] - self._planner.window_s)
        return times

    def _wanted_unplanned(self, view: View) -> Iterator[str]:
        for name in view.waiting:
            resting = self._status(name) in _RESTING
            if name not in self._planner.experts and resting and name not in self._moves:
                yield name

    def _sleeping(self, name: str) -> Order:
        order = self._moves[name] = Order("sleep", name, self._level(name))
        return order

    def _wakes(self, at: float) -> list[Order]:
        orders = []
        for name in sorted(self._rising):
            status = self._status(name)
            if status not in _RESTING:
                # It is on its way already, unless it has first to fall asleep.
                if name not in self._moves:
                    self._rising.discard(name)
                continue
            if name in self._moves or not self._fits(name):
                continue
            self._rising.discard(name)
            if self._barred(name, at) and name not in self._wished:
                continue
            move: Move = "start" if status is EngineStatus.STOPPED else "wake"
            self._moves[name] = order = Order(move, name)
            self._rises(name, at, self.wake_s(name))
            orders.append(order)
        return orders

    def _fits(self, name: str, *, soon: bool = False) -> bool:
        """Whether there is room for it just now; or will be, once all who fall asleep do."""
        there = [
            other
            for other in self._planner.experts
            if other != name
            and (self._status(other) not in _RESTING or other in self._moves)
            and not (soon and self._falls(other))
        ]
        return name not in self._planner.experts or self._planner.fits(name, there)

    def _falls(self, name: str) -> bool:
        move = self._moves.get(name)
        sent = move is not None and move.move == "sleep"
        return sent or self._status(name) is EngineStatus.DRAINING

    def _level(self, name: str) -> int:
        """How deep it sleeps: lightly, as long as the host has memory for its weights."""
        kept = sum(
            self._planner.memory(other)
            for other, state in self._states.items()
            if other != name and state.status is EngineStatus.ASLEEP and state.level == _LIGHTEST
        )
        return _LIGHTEST if kept + self._planner.memory(name) <= self._host else _DEEPER

    def _door(self, state: EngineState, at: float) -> Door:
        name, status, why = state.expert_id, state.status, state.last_error
        if status is EngineStatus.ASLEEP and self._barred(name, at):
            status, why = EngineStatus.DOWN, self._faults[name].why
        elif status is EngineStatus.STARTING and name in self._broken:
            # Nobody waits for one that broke down: whoever can asks another until it is back.
            status = EngineStatus.DOWN
        is_open = status is EngineStatus.READY and not self._falls(name) and name not in self._held
        why = why.splitlines()[0] if status is EngineStatus.DOWN and why else ""
        rising = status in _RISING
        ready_at = self._ready_at.get(name, 0.0) if rising else 0.0
        wait_s = 0.0 if is_open or rising else self.wake_s(name)
        missing = dict(state.faults) if is_open else {}
        return Door(is_open, status.value, state.level, why, wait_s, ready_at, missing)
