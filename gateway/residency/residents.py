"""Experts that live on our own machine, as one of the processes that call them sees them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import MappingProxyType

import anyio

from experts.engines.states import EngineStatus
from experts.errors import ExpertBusyError, ExpertOutOfServiceError
from experts.residency.steward import Door, Report
from gateway.residency.words import News
from routers.records import Decision
from routers.waiting import NO_WAITS

Then = Callable[[Decision | Exception], None]
"""Hears what was decided."""
_LEAST_PROBABLE = 0.01
"""What explores is spread thin over everybody, and no reason to wake anybody."""
_DOWN_S, _STOPPED_S = 1.0, 30.0
_NOBODY: Mapping[str, str] = MappingProxyType({})


class Residents:
    """Lets calls to engines through while these are awake, and holds them back while not.

    Lives on the event loop; only `enter` waits.

    Args:
        engine_of: Expert to the engine that answers for it, by the id of the expert that owns it.
        planned: Engines that sleep and wake by demand.
        queue: Most requests that may wait for one engine.
        wait_s: Longest wait for one to wake.
        down_s: Longest wait for one that broke down.
        load_of: Calls of an expert under way that did not `enter`: those of the fast path.
        clock: Monotonic seconds, the same in all processes.

    Attributes:
        barred: Experts whose calls have to `enter`, because it may have to be waited for.
        out: Experts that can't be asked just now, and why.
    """

    def __init__(
        self,
        engine_of: Mapping[str, str],
        planned: Iterable[str] = (),
        *,
        queue: int = 100,
        wait_s: float = 120.0,
        down_s: float = 10.0,
        load_of: Callable[[str], int] = lambda _expert: 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine_of = engine_of
        self._homes = dict(engine_of)
        self._planned = frozenset(planned)
        self._queue, self._wait_s, self._down_s = queue, wait_s, down_s
        self._clock = clock
        self._doors = {name: _Door() for name in engine_of.values()}
        self._asked: dict[str, float] = {}
        self._news = News(0, {})
        self._resting: dict[str, Door] = {}
        self.load_of = load_of
        self.tell: Callable[[bool], None] = lambda _at_once: None
        self.barred: frozenset[str] = frozenset(engine_of)
        self.out: Mapping[str, str] = _NOBODY

    def move_in(self, engine_of: Mapping[str, str]) -> None:
        """From now on these live here, and nobody else; calls under way still `leave`."""
        self._engine_of = engine_of
        self._homes |= engine_of
        for name in engine_of.values():
            self._doors.setdefault(name, _Door())
        self.heard(self._news)

    @property
    def engines(self) -> Collection[str]:
        """All engines there are."""
        return self._doors.keys()

    def __contains__(self, expert_id: str) -> bool:
        return expert_id in self._engine_of

    def engine_of(self, expert_id: str) -> str:
        """The engine that answers for an expert."""
        return self._engine_of[expert_id]

    def sleeps(self, expert_id: str) -> bool:
        """Whether its engine sleeps and wakes by demand, so that all its calls have to `enter`."""
        return self._engine_of.get(expert_id) in self._planned

    # Calls.

    def try_enter(self, expert_id: str) -> str | None:
        """Begin a call if that may be now: the engine, to `leave` when it is over."""
        engine = self._engine_of[expert_id]
        door = self._doors[engine]
        if not door.stands.open or expert_id in door.stands.missing:
            return None
        door.calls += 1
        self.tell(False)
        return engine

    async def enter(self, expert_id: str, within_s: float) -> str:
        """Begin a call as soon as its engine is awake.

        Returns:
            The engine, to `leave` when the call is over.

        Raises:
            ExpertOutOfServiceError: It was stopped, or it is down and does not come back soon.
            ExpertBusyError: Too many wait already, or it did not wake in time.
        """
        if (engine := self.try_enter(expert_id)) is not None:
            return engine
        engine = self._engine_of[expert_id]
        door = self._doors[engine]
        if (why := door.stands.missing.get(expert_id)) is not None:
            raise ExpertOutOfServiceError(expert_id, why, retry_after_s=_STOPPED_S)
        if door.stands.status == EngineStatus.STOPPED:
            raise ExpertOutOfServiceError(expert_id, door.why(), retry_after_s=_STOPPED_S)
        if len(door.turns) >= self._queue:
            raise ExpertBusyError(
                expert_id,
                f"{len(door.turns)} requests wait for it to wake, which are enough",
                retry_after_s=max(1.0, self._left_s(door.stands)),
            )
        down = door.stands.status == EngineStatus.DOWN
        most_s = min(within_s, self._down_s if down else self._wait_s)
        await self._turn(engine, expert_id, most_s)
        return engine

    async def _turn(self, engine: str, expert_id: str, most_s: float) -> None:
        """Wait to be let in."""
        door = self._doors[engine]
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        door.turns[turn] = self._clock()
        self.tell(True)
        try:
            with anyio.move_on_after(most_s):
                await asyncio.wait([turn])
        except asyncio.CancelledError:
            if _was_let_in(turn):
                self.leave(engine)
            raise
        finally:
            if door.turns.pop(turn, None) is not None:
                self.tell(True)
        if _was_let_in(turn):
            return
        if door.stands.status in _OUT:
            raise ExpertOutOfServiceError(expert_id, door.why(), retry_after_s=_DOWN_S)
        raise ExpertBusyError(
            expert_id,
            f"it is {door.stands.status} and did not wake within {most_s:.3g} s",
            retry_after_s=max(1.0, self._left_s(door.stands)),
        )

    def leave(self, engine: str) -> None:
        """A call that entered is over."""
        self._doors[engine].calls -= 1
        self.tell(False)

    # Decisions.

    def noting(self, then: Then) -> Then:
        """`then`, for a decision that is noted before."""

        def noted(found: Decision | Exception) -> None:
            if not isinstance(found, Exception):
                self._note(found)
            then(found)

        return noted

    def _note(self, found: Decision) -> None:
        """Whom a decision may have fallen on is likely to be asked."""
        probabilities = zip(found.candidates.experts, found.probabilities_A.tolist(), strict=True)
        for expert_id, probability in probabilities:
            engine = self._engine_of.get(expert_id)
            if engine in self._planned and probability >= _LEAST_PROBABLE:
                assert engine is not None  # noqa: S101 - it is planned
                self._asked[engine] = self._asked.get(engine, 0.0) + probability
        engine = self._engine_of.get(found.expert)
        self.tell(engine is not None and not self._doors[engine].stands.open)

    def waits_s(self) -> Mapping[str, float]:
        """Expert to seconds until a call of it can begin, for those that sleep or wake."""
        if not self._resting:
            return NO_WAITS
        return {
            expert_id: self._left_s(self._resting[engine])
            for expert_id, engine in self._engine_of.items()
            if engine in self._resting
        }

    def retry_s(self, expert_id: str) -> float:
        """Seconds until one that is `out` may well be asked again."""
        status = self._doors[self._homes[expert_id]].stands.status
        return _DOWN_S if status == EngineStatus.DOWN else _STOPPED_S

    def waiting(self, expert_id: str) -> int:
        """How many requests of this process wait for its engine."""
        return len(self._doors[self._homes[expert_id]].turns)

    # What is told.

    def heard(self, news: News) -> None:
        """The engines stand otherwise now: whoever waits for one that woke begins, all at once."""
        self._news = news
        for name, stands in news.doors.items():
            if (door := self._doors.get(name)) is not None:
                door.change(stands)
        shut = {name for name, door in self._doors.items() if not door.stands.open}
        self._resting = {
            name: door.stands for name, door in self._doors.items() if door.stands.status in _RESTS
        }
        self.barred = frozenset(
            expert
            for expert, engine in self._engine_of.items()
            if engine in shut
            or engine in self._planned
            or expert in self._doors[engine].stands.missing
        )
        out = {
            expert: self._doors[engine].why()
            for expert, engine in self._engine_of.items()
            if self._doors[engine].stands.status in _OUT
        }
        for door in self._doors.values():
            out |= {each: why for each, why in door.stands.missing.items() if each in self}
        self.out = out
        self.tell(True)

    def lost(self) -> None:
        """Nobody tells us any more how the engines stand: nobody begins until somebody does."""
        for door in self._doors.values():
            door.stands = door.stands._replace(open=False)
        self._news = News(0, {})
        self.barred = frozenset(self._engine_of)

    def report(self) -> tuple[Report, Mapping[str, float]]:
        """How this process stands, and what was decided since this was asked last."""
        asked, self._asked = self._asked, {}
        calls = {name: count for name in self._doors if (count := self._calls(name))}
        waits = {name: list(door.turns.values()) for name, door in self._doors.items()}
        report = Report(
            self._news.number, calls, {name: times for name, times in waits.items() if times}
        )
        return report, asked

    @property
    def draining(self) -> bool:
        """Whether calls are to end whose end nobody will tell us."""
        return any(not door.stands.open and self._calls(name) for name, door in self._doors.items())

    def _calls(self, engine: str) -> int:
        entered = self._doors[engine].calls
        if engine in self._planned:
            return entered
        experts = [expert for expert, other in self._homes.items() if other == engine]
        return max(entered, sum(self.load_of(expert) for expert in experts))

    def _left_s(self, stands: Door) -> float:
        return max(0.0, stands.ready_at - self._clock()) if stands.ready_at else stands.wait_s


_RESTS = (
    EngineStatus.ASLEEP,
    EngineStatus.WAKING,
    EngineStatus.STARTING,
    EngineStatus.DRAINING,
)
_OUT = (EngineStatus.DOWN, EngineStatus.STOPPED)
_UNKNOWN = Door(False, EngineStatus.STARTING.value, 0, "", 0.0, 0.0)


class _Door:
    """One engine: how it stands, who is with it, who waits for it and since when."""

    __slots__ = ("calls", "stands", "turns")

    def __init__(self) -> None:
        self.stands = _UNKNOWN
        self.calls = 0
        self.turns: dict[asyncio.Future[bool], float] = {}

    def change(self, stands: Door) -> None:
        """Let those who wait in, or turn them away as soon as waiting is in vain."""
        failed = stands.status in _OUT and self.stands.status not in _OUT
        self.stands = stands
        if not (stands.open or failed):
            return
        turns: Sequence[asyncio.Future[bool]] = list(self.turns)
        self.turns.clear()
        for turn in turns:
            # One that gave up a moment ago may not have left yet.
            if not turn.done():
                self.calls += stands.open
                turn.set_result(stands.open)

    def why(self) -> str:
        stands = self.stands
        if stands.status == EngineStatus.STOPPED:
            return "its engine was stopped by hand"
        return f"its engine is down: {stands.why}" if stands.why else "its engine is down"


def _was_let_in(turn: asyncio.Future[bool]) -> bool:
    return turn.done() and not turn.cancelled() and turn.result()


NOBODY_LIVES_HERE = Residents({})
"""Where there are no engines."""
