"""One timer per call that is moved often and fires rarely."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Clock:
    """Tells when something did not come in time.

    Moving the end of a wait later costs nothing: the timer finds out when it fires.

    Args:
        loop: Whose time it is.
        deadline: End of the whole request, on the loop's clock; no wait is longer.
        late: Called with what did not come, and the seconds that were waited for it.
    """

    __slots__ = ("_deadline", "_due", "_late", "_loop", "_since", "_timer", "_what")

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
        self._since = self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

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
        timer = self._timer
        if timer is None or timer.when() > self._due:
            if timer is not None:
                timer.cancel()
            self._timer = self._loop.call_at(self._due, self._fired)

    def stop(self) -> None:
        """Nothing is waited for any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fired(self) -> None:
        if self._loop.time() < self._due:
            self._timer = self._loop.call_at(self._due, self._fired)
            return
        self._timer = None
        self._late(self._what, self._due - self._since)
