"""Who is to wake and who makes room, from what waits, what is coming, and what moving takes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

_WHOLE = ""
"""The part of memory that all of it is, beside the devices."""
_SLACK = 1e-9
"""What fits by its decimals does so, though their sum in binary may be a little more."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """What an expert takes.

    Attributes:
        memory: Fast memory while awake, in any unit, > 0.
        wake_s: From asleep until it answers, measured, >= 0.
        on: Device to what it takes there of `memory`, where devices have room of their own.
    """

    memory: float
    wake_s: float
    on: Mapping[str, float] = field(default_factory=dict)

    @property
    def parts(self) -> dict[str, float]:
        """What it takes of each part of memory: of the whole, and of its devices."""
        return {_WHOLE: self.memory, **self.on}


@dataclass(frozen=True, slots=True)
class View:
    """What there is just now.

    Attributes:
        awake: Experts that can answer, with the calls each has under way.
        moving: Experts on their way to being awake: they take their memory already.
        waiting: Expert to when each request that waits for it came, oldest first; none is empty.
        broken: Those of `moving` of which nobody knows when they will be awake.
    """

    awake: Mapping[str, int]
    moving: frozenset[str] = frozenset()
    waiting: Mapping[str, Sequence[float]] = field(default_factory=dict)
    broken: frozenset[str] = frozenset()


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
    same memory moves. Room is counted device by device: only who is on one where room is short
    makes any.

    Not safe for use from several threads.

    Args:
        footprints: Expert to what it takes.
        memory: Fast memory in the same unit, > 0; infinite where only devices bound it.
        devices: Device to its fast memory, of all that footprints name.
        window_s: How long a request waits before busy experts make room for its own.
        half_life_s: In which what was asked counts half.
        stay: How often the time that waking took an expert stays at least.

    Attributes:
        experts: Those with footprints.
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
        devices: Mapping[str, float] = MappingProxyType({}),
        window_s: float = 30.0,
        half_life_s: float = 300.0,
        stay: float = 0.1,
    ) -> None:
        self._footprints = dict(footprints)
        self.experts = self._footprints.keys()
        self._sizes = {_WHOLE: memory * (1 + _SLACK)}
        self._sizes |= {device: size * (1 + _SLACK) for device, size in devices.items()}
        for name in footprints:
            for part, lacks in self._lacks(name, self._sizes).items():
                of = f"device {part}" if part else "memory"
                takes = self._footprints[name].parts[part]
                raise ValueError(
                    f"expert {name!r} takes {takes:g} of {of}, there is {takes - lacks:g}"
                )
        self.window_s = window_s
        self._half_life_s = half_life_s
        self._stay = stay
        self._counts = dict.fromkeys(footprints, 0.0)
        self._counted_at = dict.fromkeys(footprints, -math.inf)
        self._woken_at = dict.fromkeys(footprints, -math.inf)

    def memory(self, expert: str) -> float:
        """What it takes while awake; nothing is known of one that takes no turns: 0."""
        return self._footprints[expert].memory if expert in self._footprints else 0.0

    def fits(self, expert: str, beside: Iterable[str]) -> bool:
        """Whether there is room for it on each of its devices while these are awake."""
        return not self._lacks(expert, self._free(beside))

    def asked(self, expert: str, at: float, weight: float = 1.0) -> None:
        """Count a request for an expert; `weight` is its probability where it is only likely."""
        self._counts[expert] = self._count(expert, at) + weight
        self._counted_at[expert] = at

    def forget(self, expert: str) -> None:
        """Count nothing that it was asked so far: somebody wants it asleep until it is asked."""
        self._counts[expert] = 0.0

    def woke(self, expert: str, at: float, took_s: float) -> None:
        """It is awake since just now, and waking took so long, which the next time may too."""
        self._footprints[expert] = replace(self._footprints[expert], wake_s=took_s)
        self._woken_at[expert] = at

    def sleeps(self, expert: str, wake_s: float) -> None:
        """It sleeps so that waking is expected to take so long."""
        self._footprints[expert] = replace(self._footprints[expert], wake_s=wake_s)

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
        going: set[str] = set()
        free = self._free((*view.awake, *view.moving))
        for name in self._wanted(at, view):
            lacks = self._lacks(name, free)
            victims = self._victims(name, at, view, lacks, going)
            if victims is None and not self._keeps_room(name, at, view):
                continue
            freed, takes = self._taken(victims or ()), self._taken([name])
            left = {part: room + (freed[part] - takes[part]) for part, room in free.items()}
            if victims is None:
                free = left | dict.fromkeys(lacks, -math.inf)
                continue
            going.update(victims)
            if busy := [victim for victim in victims if view.awake[victim] > 0]:
                drain += busy
                # What they free is not there yet, and what it needs beside that is spoken for.
                free = {part: min(room, left[part]) for part, room in free.items()}
                continue
            free = left
            sleep += victims
            wake.append(name)
            self._woken_at[name] = at + self._footprints[name].wake_s
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

    def _keeps_room(self, expert: str, at: float, view: View) -> bool:
        """Whether what it needs is left to it by whoever waits less, though more is lacking yet.

        Else one that needs room on several devices would hardly ever find it on all at a time.
        """
        return self._overdue(expert, at, view) and self.fits(expert, view.broken)

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
        self, name: str, at: float, view: View, lacks: Mapping[str, float], taken: set[str]
    ) -> list[str] | None:
        """Who makes the room that `name` lacks; None if nobody may yet."""
        if not lacks:
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
        victims, left = [], dict(lacks)
        for each in able:
            victims.append(each)
            frees = self._footprints[each].parts
            left = {part: gap - frees.get(part, 0.0) for part, gap in left.items()}
            if all(gap <= 0 for gap in left.values()):
                return self._needed(victims, lacks)
        return None

    def _needed(self, victims: list[str], lacks: Mapping[str, float]) -> list[str]:
        """Those that have to go: not who is on other devices, or small beside others that go."""
        for each in reversed(victims):
            others = [victim for victim in victims if victim != each]
            freed = self._taken(others)
            if all(freed[part] >= gap for part, gap in lacks.items()):
                victims = others
        return victims

    def _next_use(self, name: str, at: float, view: View) -> tuple[int, float, str]:
        """Sorts whoever is asked again last to the front."""
        return (len(view.waiting.get(name, ())), -self.until_asked_s(name, at), name)

    def _taken(self, names: Iterable[str]) -> dict[str, float]:
        """Part of memory to what these take of it together."""
        taken = dict.fromkeys(self._sizes, 0.0)
        for name in names:
            for part, takes in self._footprints[name].parts.items():
                taken[part] += takes
        return taken

    def _free(self, names: Iterable[str]) -> dict[str, float]:
        """Part of memory to what is left of it while these are awake."""
        taken = self._taken(names)
        return {part: size - taken[part] for part, size in self._sizes.items()}

    def _lacks(self, name: str, free: Mapping[str, float]) -> dict[str, float]:
        """Part of memory to what is missing of it for this one, where anything is."""
        parts = self._footprints[name].parts.items()
        return {part: takes - free[part] for part, takes in parts if takes > free[part]}
