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


class ResidencyPlanner:
    """Wakes whom requests wait for the most, and has whoever is asked least make room.

    Three decisions. Who wakes: of those that sleep and are waited for, the one whose requests have
    the largest sum of squared waits, so that long waits are rare; one that is only likely to be
    asked soon is fetched into free memory, and nobody makes room for it. Who makes room: of those
    that are idle and waited for by nobody, whoever is asked again last as far as can be told, by
    its rate (Belady's rule on expectations, never least-recently-used). When: at once, since to
    keep an idle one that is asked often until more wait for another saves moves at the price of the
    long waits; but after a whole window the busy make room as well, and get no more calls until
    they are idle. Whoever woke stays for `stay` times what that took, which bounds how often the
    same memory moves.

    Not safe for use from several threads.

    Args:
        footprints: Expert to what it takes.
        memory: Fast memory in the same unit, > 0.
        window_s: How long a request waits before busy experts make room for its own.
        half_life_s: In which what was asked counts half.
        stay: How often the time that waking took an expert stays at least.

    Attributes:
        window_s: As given.

    Raises:
        ValueError: An expert does not fit at all.

    Source: the order is that of the generalized c-mu rule (van Mieghem, 1995), for costs that grow
    with the cube of the delay and a service that answers all who wait; eviction by expected use is
    that of CoServe (Suo et al., 2025), the look-ahead by routing at admission that of Read-ME (Cai
    et al., 2024), on whole models.
    """

    def __init__(
        self,
        footprints: Mapping[str, Footprint],
        memory: float,
        *,
        window_s: float = 30.0,
        half_life_s: float = 300.0,
        stay: float = 0.1,
    ) -> None:
        for name, footprint in footprints.items():
            if footprint.memory > memory:
                raise ValueError(
                    f"expert {name!r} takes {footprint.memory:g} of memory, there is {memory:g}"
                )
        self._footprints = dict(footprints)
        self._memory = memory
        self.window_s = window_s
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
            victims = self._victims(name, at, view, need, {*sleep, *drain})
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

    def _comes_soon(self, expert: str, at: float) -> bool:
        """Whether it is asked, by its rate, before it could be awake."""
        return self.rate(expert, at) * self._footprints[expert].wake_s >= 1

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

        def urgency(name: str) -> tuple[float, float, float, str]:
            times = view.waiting.get(name, (math.inf,))
            first = times[0] if self._overdue(name, at, view) else math.inf
            waited = sum((at - time) ** 2 for time in view.waiting.get(name, ()))
            return (first, -waited, times[0], name)

        return sorted(asleep, key=urgency)

    def _victims(
        self, name: str, at: float, view: View, need: float, taken: set[str]
    ) -> list[str] | None:
        """Who makes room for `name`; None if nobody may yet."""
        if need <= 0:
            return []
        if name not in view.waiting:
            return None
        oldest = view.waiting[name][0]
        overdue = self._overdue(name, at, view)

        def may_go(each: str) -> bool:
            if not overdue:
                return view.awake[each] == 0 and each not in view.waiting
            # Nobody makes room for shorter waits than their own, else two could chase each other.
            return each not in view.waiting or view.waiting[each][0] > oldest

        able = [
            each
            for each in view.awake
            if each not in taken and at >= self._stays_until(each) and may_go(each)
        ]
        able.sort(key=lambda each: (view.awake[each] > 0, *self._next_use(each, at, view)))
        victims: list[str] = []
        for each in able:
            victims.append(each)
            need -= self._footprints[each].memory
            if need <= 0:
                return victims
        return None

    def _next_use(self, name: str, at: float, view: View) -> tuple[int, float, str]:
        """Sorts whoever is asked again last to the front."""
        return (len(view.waiting.get(name, ())), -self.until_asked_s(name, at), name)

    def _taken(self, names: Sequence[str]) -> float:
        return sum(self._footprints[name].memory for name in names)
