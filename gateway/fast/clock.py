"""What is waited for and until when; one timer looks after all requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

_TICK_S = 0.025
"""By so much a wait may be too long. A timer of its own would cost each request ten times this."""


class Clock:
    """What one request waits for.

    Args:
        deadline: End of the whole request, on the event loop's clock; no wait is longer.
        late: Called with what did not come, and the seconds that were waited for it.
    """

    __slots__ = ("_deadline", "_due", "_late", "_loop", "_since", "_what")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        deadline: float,
        late: Callable[[str, float], None],
    ) -> None:
        self._loop = loop
        self._deadline = deadline
        self._late = late
        self._what = ""
        self._since = 0.0
        self._due: float | None = None

    def now(self) -> float:
        """Seconds on the loop's clock."""
        return self._loop.time()

    def left_s(self) -> float:
        """Seconds until the deadline."""
        return max(0.0, self._deadline - self._loop.time())

    def wait(self, what: str, limit_s: float, *, since: float | None = None) -> None:
        """`what` has to come within so many seconds, counted from now or from `since`."""
        self._what = what
        self._since = self._loop.time() if since is None else since
        self._due = min(self._since + limit_s, self._deadline)

    def extend(self, seconds: float) -> None:
        """The deadline is later by so much."""
        self._deadline += seconds

    def stop(self) -> None:
        """Nothing is waited for any more."""
        self._due = None

    def release(self) -> None:
        """Nobody listens any more."""
        self._due = None
        self._late = _told_nobody

    def check(self, now: float) -> None:
        """Tell if it is too late; `now` is the loop's time."""
        if self._due is not None and now >= self._due:
            waited_s = self._due - self._since
            self._due = None
            self._late(self._what, waited_s)


def _told_nobody(_what: str, _waited_s: float) -> None:
    return None


class Timed(Protocol):
    """Somebody who waits."""

    def check(self, now: float) -> None:
        """See `Clock.check`."""
        ...


T = TypeVar("T", bound=Timed)


class Wheel(Generic[T]):
    """Checks everybody who waits, as long as somebody does.

    Attributes:
        waiting: They.
    """

    def __init__(self) -> None:
        self.waiting: set[T] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, timed: T, loop: asyncio.AbstractEventLoop) -> None:
        """From now on it is checked, with the loop's time."""
        self.waiting.add(timed)
        if self._timer is None:
            self._timer = loop.call_later(_TICK_S, self._turn, loop)

    def discard(self, timed: T) -> None:
        """No longer."""
        self.waiting.discard(timed)

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = loop.time()
        for timed in list(self.waiting):
            timed.check(now)
        if self.waiting:
            self._timer = loop.call_later(_TICK_S, self._turn, loop)
