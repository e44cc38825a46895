"""Who is to wake and who makes room, from what waits, what is coming, and what moving takes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Footprint:
    """What an expert takes.

    Attributes:
        memory: Fast memory while awake, in any unit, > 0.
        wake_s: From asleep until it answers, measured, >= 0.
    """

    memory: float
    wake_s: float


@dataclass(frozen=True, slots=True)
class View:
    """What there is just now.

    Attributes:
        awake: Experts that can answer, with the calls each has under way.
        moving: Experts on their way to being awake: they take their memory already.
        waiting: Expert to when each request that waits for it came, oldest first; none is empty.
    """

    awake: Mapping[str, int]
    moving: frozenset[str] = frozenset()
    waiting: Mapping[str, Sequence[float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Moves:
    """What to do now.

    Attributes:
        sleep: Idle experts to put to sleep, at once.
        wake: Experts to wake; there is room once `sleep` is done.
        drain: Busy experts that get no calls for now, because they are to sleep; all others do.
    """

    sleep: tuple[str, ...] = ()
    wake: tuple[str, ...] = ()
    drain: tuple[str, ...] = ()


_LEAST_S = 0.1


class ResidencyPlanner:
    """Keeps awake whom the next minutes will ask, and moves only where that pays.

    The demand for an expert is what waits for it, each request counting once more for every time
    that waking takes which it has waited, and what comes within the horizon at its recent rate. A
    sleeping one wakes when its demand exceeds that for those who make room by what moving costs in
    requests, or when somebody has waited a whole window for it; one that is only likely to be asked
    soon is fetched into free memory, and nobody makes room for it. Who makes room is idle and asked
    again last, as far as can be told: not if anybody waits for it, else by its rate (Belady's rule
    on expectations, never least-recently-used). Whoever woke stays for `stay` times what waking
    took, which bounds how often the same memory moves.

    Not safe for use from several threads.

    Args:
        footprints: Expert to what it takes.
        memory: Fast memory in the same unit, > 0.
        window_s: Longest that a request should wait for others to gather behind it.
        horizon_s: How far ahead demand is reckoned.
        half_life_s: In which what was asked counts half.
        stay: How often the time that waking took an expert stays at least.

    Attributes:
        window_s: As given.

    Raises:
        ValueError: An expert does not fit at all.

    Source: the eviction by expected use of CoServe (Suo et al., 2025), the look-ahead by routing at
    admission of Read-ME (Cai et al., 2024), on whole models.
    """

    def __init__(
        self,
        footprints: Mapping[str, Footprint],
        memory: float,
        *,
        window_s: float = 30.0,
        horizon_s: float = 3.0,
        half_life_s: float = 120.0,
        stay: float = 0.2,
    ) -> None:
        for name, footprint in footprints.items():
            if footprint.memory > memory:
                raise ValueError(
                    f"expert {name!r} takes {footprint.memory:g} of memory, there is {memory:g}"
                )
        self._footprints = dict(footprints)
        self._memory = memory
        self.window_s = window_s
        self._horizon_s = horizon_s
        self._half_life_s = half_life_s
        self._stay = stay
        self._counts = dict.fromkeys(footprints, 0.0)
        self._counted_at = dict.fromkeys(footprints, -math.inf)
        self._woken_at = dict.fromkeys(footprints, -math.inf)

    def asked(self, expert: str, at: float, weight: float = 1.0) -> None:
        """Count a request for an expert; `weight` is its probability where it is only likely."""
        self._counts[expert] = self._count(expert, at) + weight
        self._counted_at[expert] = at

    def forget(self, expert: str) -> None:
        """Count nothing that it was asked so far: somebody wants it asleep until it is asked."""
        self._counts[expert] = 0.0

    def woke(self, expert: str, at: float, took_s: float) -> None:
        """It is awake since just now, and waking took so long, which the next time may too."""
        self._footprints[expert] = Footprint(self._footprints[expert].memory, took_s)
        self._woken_at[expert] = at

    def sleeps(self, expert: str, wake_s: float) -> None:
        """It sleeps so that waking is expected to take so long."""
        self._footprints[expert] = Footprint(self._footprints[expert].memory, wake_s)

    def rate(self, expert: str, at: float) -> float:
        """Requests per second that it was asked lately."""
        return self._count(expert, at) * math.log(2) / self._half_life_s

    def until_asked_s(self, expert: str, at: float) -> float:
        """Seconds after which it is expected to be asked again, which decides who makes room."""
        rate = self.rate(expert, at)
        return 1 / rate if rate > 0 else math.inf

    def plan(self, at: float, view: View) -> Moves:
        """What to do now; call it again when anything changes, and by `due_at` at the latest."""
        sleep: list[str] = []
        wake: list[str] = []
        drain: list[str] = []
        room = self._memory - self._taken((*view.awake, *view.moving))
        for name in self._wanted(at, view):
            need = self._footprints[name].memory - room
            overdue = self._overdue(name, at, view)
            victims = self._victims(name, at, view, need, {*sleep, *drain}, overdue)
            if victims is None:
                continue
            busy = [victim for victim in victims if view.awake[victim] > 0]
            if busy:
                drain += busy
                continue
            sleep += victims
            wake.append(name)
            self._woken_at[name] = at + self._footprints[name].wake_s
            room += self._taken(victims) - self._footprints[name].memory
        return Moves(tuple(sleep), tuple(wake), tuple(drain))

    def due_at(self, at: float, view: View) -> float:
        """When to plan again though nothing happens; infinity if nobody waits for a sleeper.

        Then a request will have waited a whole window, or an expert have stayed long enough.
        """
        asleep = [times[0] for name, times in view.waiting.items() if name not in view.awake]
        if not asleep:
            return math.inf
        ends = [oldest + self.window_s for oldest in asleep]
        ends += [self._stays_until(name) for name in view.awake]
        return min((end for end in ends if end > at), default=math.inf)

    def _stays_until(self, expert: str) -> float:
        return self._woken_at[expert] + self._stay * self._footprints[expert].wake_s

    def _count(self, expert: str, at: float) -> float:
        passed = at - self._counted_at[expert]
        return (
            self._counts[expert] * 0.5 ** (passed / self._half_life_s) if passed < math.inf else 0
        )

    def _demand(self, expert: str, at: float, view: View) -> float:
        times = view.waiting.get(expert, ())
        patience_s = max(self._footprints[expert].wake_s, _LEAST_S)
        waiting = sum(1 + (at - time) / patience_s for time in times)
        return waiting + self.rate(expert, at) * self._horizon_s

    def _comes_soon(self, expert: str, at: float) -> bool:
        """Whether it is to be asked before it could be awake, or within the horizon from then."""
        within_s = self._footprints[expert].wake_s + self._horizon_s
        return self.rate(expert, at) * within_s >= 1

    def _overdue(self, expert: str, at: float, view: View) -> bool:
        times = view.waiting.get(expert, ())
        return bool(times) and at >= times[0] + self.window_s

    def _wanted(self, at: float, view: View) -> list[str]:
        """Who sleeps and is waited for, or soon will be; whoever waited a whole window first."""
        asleep = [
            name
            for name in self._footprints
            if name not in view.awake
            and name not in view.moving
            and (name in view.waiting or self._comes_soon(name, at))
        ]

        def urgency(name: str) -> tuple[float, float, str]:
            overdue = self._overdue(name, at, view)
            first = view.waiting[name][0] if overdue else math.inf
            return (first, -self._demand(name, at, view), name)

        return sorted(asleep, key=urgency)

    def _victims(
        self,
        name: str,
        at: float,
        view: View,
        need: float,
        taken: set[str],
        overdue: bool,
    ) -> list[str] | None:
        """Who makes room for `name`; None if it does not pay, or nobody may go yet."""
        if need <= 0:
            return []
        if name not in view.waiting:
            return None
        able = [
            each
            for each in view.awake
            if each not in taken
            and at >= self._stays_until(each)
            and (overdue or view.awake[each] == 0)
        ]
        able.sort(key=lambda each: (view.awake[each] > 0, *self._next_use(each, at, view)))
        victims: list[str] = []
        lost = 0.0
        for each in able:
            victims.append(each)
            lost += self._demand(each, at, view)
            need -= self._footprints[each].memory
            if need <= 0:
                break
        if need > 0:
            return None
        # What waits is worth a move if the move, in requests, is less than what it serves sooner.
        cost = sum(self.rate(each, at) for each in victims) * self._footprints[name].wake_s
        pays = self._demand(name, at, view) - lost > cost
        return victims if overdue or pays else None

    def _next_use(self, name: str, at: float, view: View) -> tuple[int, float, str]:
        """Sorts whoever is asked again last to the front."""
        return (len(view.waiting.get(name, ())), -self.until_asked_s(name, at), name)

    def _taken(self, names: Sequence[str]) -> float:
        return sum(self._footprints[name].memory for name in names)
