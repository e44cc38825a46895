"""Experts that share fast memory, requests that wait for them, and whoever decides who is awake."""

from __future__ import annotations

import heapq
import math
from bisect import bisect_right
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from experts.residency.planner import Footprint, Moves, ResidencyPlanner, View


@dataclass(frozen=True, slots=True)
class Request:
    """Who is asked when, and for how long it is busy with that."""

    at: float
    expert: str
    service_s: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What happened.

    Attributes:
        waits_s: From arrival to the start of the answer, by request.
        switches: Experts woken.
        woken: When, and who.
    """

    waits_s: tuple[float, ...]
    switches: int
    woken: tuple[tuple[float, str], ...]

    def wait_s(self, share: float) -> float:
        """The wait that this share of the requests does not exceed."""
        return float(np.quantile(self.waits_s, share))


class Manager(Protocol):
    """Decides who is awake."""

    def asked(self, expert: str, at: float) -> None: ...

    def plan(self, at: float, view: View) -> Moves: ...

    def due_at(self, at: float, view: View) -> float: ...


class Planned:
    """The planner as it would serve."""

    def __init__(self, planner: ResidencyPlanner) -> None:
        self._planner = planner
        self.plan, self.due_at = planner.plan, planner.due_at

    def asked(self, expert: str, at: float) -> None:
        self._planner.asked(expert, at)


class Clairvoyant(ResidencyPlanner):
    """The planner with Belady's rule as it is meant: whoever makes room is asked again last indeed.

    Args:
        footprints: Expert to what it takes.
        memory: Fast memory.
        requests: All that will come, by time.
    """

    def __init__(
        self, footprints: Mapping[str, Footprint], memory: float, requests: Sequence[Request]
    ) -> None:
        super().__init__(footprints, memory)
        self._coming: dict[str, list[float]] = {}
        for request in requests:
            self._coming.setdefault(request.expert, []).append(request.at)

    def until_asked_s(self, expert: str, at: float) -> float:
        times = self._coming.get(expert, [])
        place = bisect_right(times, at)
        return times[place] - at if place < len(times) else math.inf


class OnDemand:
    """Wakes whoever is waited for, oldest request first, as soon as an idle one can make room.

    Whoever was asked the longest ago makes room (LRU): what a server of local models usually does.

    Args:
        footprints: Expert to what it takes.
        memory: Fast memory.
        in_turn: Whether requests are served strictly in the order in which they came (FCFS): the
            first that waits for a sleeping expert holds up all behind it.
    """

    def __init__(
        self, footprints: Mapping[str, Footprint], memory: float, *, in_turn: bool
    ) -> None:
        self._footprints = footprints
        self._memory = memory
        self._in_turn = in_turn
        self._asked_at: dict[str, float] = {}

    def asked(self, expert: str, at: float) -> None:
        self._asked_at[expert] = at

    def plan(self, at: float, view: View) -> Moves:
        asleep = [n for n in view.waiting if n not in view.awake and n not in view.moving]
        asleep.sort(key=lambda name: view.waiting[name][0])
        asleep = asleep[:1] if self._in_turn else asleep
        taken = sum(self._footprints[n].memory for n in (*view.awake, *view.moving))
        room = self._memory - taken
        first = min(view.waiting, key=lambda name: view.waiting[name][0], default=None)
        wanted = {first} if self._in_turn else view.waiting.keys()
        idle = [n for n, calls in view.awake.items() if calls == 0 and n not in wanted]
        idle.sort(key=lambda name: self._asked_at.get(name, 0.0))
        sleep, wake = [], []
        for name in asleep:
            need = self._footprints[name].memory
            while room < need and idle:
                victim = idle.pop(0)
                sleep.append(victim)
                room += self._footprints[victim].memory
            if room < need:
                break
            wake.append(name)
            room -= need
        if not self._in_turn:
            return Moves(tuple(sleep), tuple(wake))
        held = tuple(name for name in view.awake if name != first)
        return Moves(tuple(sleep), tuple(wake), held)

    def due_at(self, at: float, view: View) -> float:
        return float("inf")


@dataclass(slots=True)
class _Machine:
    """The state of a run."""

    footprints: Mapping[str, Footprint]
    at_once: int
    awake: dict[str, int] = field(default_factory=dict)
    moving: set[str] = field(default_factory=set)
    queues: dict[str, deque[int]] = field(default_factory=dict)
    woken: list[tuple[float, str]] = field(default_factory=list)

    def view(self, requests: Sequence[Request]) -> View:
        waiting = {
            name: [requests[index].at for index in queue]
            for name, queue in self.queues.items()
            if queue
        }
        return View(dict(self.awake), frozenset(self.moving), waiting)


def simulate(
    requests: Sequence[Request],
    footprints: Mapping[str, Footprint],
    manager: Manager,
    *,
    at_once: int = 4,
) -> Outcome:
    """Run a trace to its end.

    Args:
        requests: By time of arrival.
        footprints: Expert to what it takes.
        manager: Who decides.
        at_once: Calls that one awake expert answers at a time.

    Raises:
        RuntimeError: The manager leaves requests waiting for ever.
    """
    machine = _Machine(footprints, at_once)
    waits = [float("nan")] * len(requests)
    events: list[tuple[float, int, str, int | str]] = []
    for index, request in enumerate(requests):
        events.append((request.at, index, "came", index))
    heapq.heapify(events)
    order = len(requests)
    while events:
        at, _, what, subject = heapq.heappop(events)
        _happened(machine, manager, requests, at, what, subject)
        if events and events[0][0] == at:
            continue
        moves = manager.plan(at, machine.view(requests))
        for name in moves.sleep:
            del machine.awake[name]
        for name in moves.wake:
            machine.moving.add(name)
            machine.woken.append((at, name))
            order += 1
            heapq.heappush(events, (at + footprints[name].wake_s, order, "woke", name))
        for index in _started(machine, moves.drain):
            waits[index] = at - requests[index].at
            order += 1
            done = (at + requests[index].service_s, order, "done", requests[index].expert)
            heapq.heappush(events, done)
        due = manager.due_at(at, machine.view(requests))
        if at < due < float("inf"):
            order += 1
            heapq.heappush(events, (due, order, "due", ""))
    if any(wait != wait for wait in waits):
        raise RuntimeError("some requests were never served")
    return Outcome(tuple(waits), len(machine.woken), tuple(machine.woken))


def _happened(
    machine: _Machine,
    manager: Manager,
    requests: Sequence[Request],
    at: float,
    what: str,
    subject: int | str,
) -> None:
    if what == "came":
        expert = requests[int(subject)].expert
        machine.queues.setdefault(expert, deque()).append(int(subject))
        manager.asked(expert, at)
    elif what == "woke":
        machine.moving.remove(str(subject))
        machine.awake[str(subject)] = 0
    elif what == "done":
        machine.awake[str(subject)] -= 1


def _started(machine: _Machine, held: Sequence[str]) -> list[int]:
    """The requests that begin to be answered now."""
    begun = []
    for name, queue in machine.queues.items():
        if name not in machine.awake or name in held:
            continue
        while queue and machine.awake[name] < machine.at_once:
            machine.awake[name] += 1
            begun.append(queue.popleft())
    return begun
