"""Requests and tokens over the last second to day: exact, in this process, without a lock."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from gateway.access.meters import Meter

BUCKETS = 60
"""Parts that a window is counted in: what is older than the window by one part is forgotten."""
PERIOD_S = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86_400.0}


class WindowFullError(Exception):
    """Nothing was taken.

    Attributes:
        meter: The first one that refused.
        wait_s: Seconds until it would not; None is never.
    """

    def __init__(self, meter: Meter, wait_s: float | None) -> None:
        super().__init__(meter.name)
        self.meter = meter
        self.wait_s = wait_s


@dataclass(frozen=True, slots=True)
class Standing:
    """How a window stands: what is left, and seconds until all of it is."""

    meter: Meter
    left: int
    reset_s: float


class Window:
    """A sliding window in buckets.

    In no interval of `period_s` more than `amount` is taken, and what fits the last `period_s` and
    one bucket is never refused. Only correcting an estimate upwards can go beyond.
    """

    __slots__ = ("_amount", "_counts", "_total", "_width")

    def __init__(self, amount: int, period_s: float) -> None:
        self._amount = amount
        self._width = period_s / BUCKETS
        self._counts: deque[list[int]] = deque()  # [bucket, count], oldest first
        self._total = 0

    def left(self, now: float) -> int:
        """What could be taken at once."""
        self._forget(now)
        return max(self._amount - self._total, 0)

    def wait_s(self, cost: int, now: float) -> float | None:
        """Seconds until `cost` fits; 0 when it does, None when it never will."""
        if cost > self._amount:
            return None
        surplus = self._total + cost - self._amount if self.left(now) < cost else 0
        wait_s = 0.0
        for bucket, count in self._counts:
            if surplus <= 0:
                break
            surplus -= count
            wait_s = max(self._ends(bucket) - now, 0.0)
        return wait_s

    def take(self, cost: int, now: float) -> int:
        """Count `cost`; the bucket it was counted in, for `correct`."""
        bucket = int(now / self._width)
        if not self._counts or self._counts[-1][0] < bucket:
            self._counts.append([bucket, 0])
        self._counts[-1][1] += cost
        self._total += cost
        return self._counts[-1][0]

    def correct(self, bucket: int, by: int, now: float) -> None:
        """Change what was counted in `bucket`, unless that is forgotten already."""
        self._forget(now)
        for counted in reversed(self._counts):
            if counted[0] == bucket:
                counted[1] += by
                self._total += by
                return

    def reset_s(self, now: float) -> float:
        """Seconds until nothing is counted any more."""
        self._forget(now)
        return max(self._ends(self._counts[-1][0]) - now, 0.0) if self._counts else 0.0

    def _ends(self, bucket: int) -> float:
        return (bucket + BUCKETS + 1) * self._width

    def _forget(self, now: float) -> None:
        oldest = int(now / self._width) - BUCKETS
        while self._counts and self._counts[0][0] < oldest:
            self._total -= self._counts.popleft()[1]


@dataclass(slots=True)
class Taken:
    """One meter's part of a request, to be corrected when its true size is known."""

    meter: Meter
    window: Window
    bucket: int
    cost: int


class Windows:
    """The windows of all meters of this process. Lives on the event loop; never waits.

    Args:
        clock: Seconds, never going back.
        most: Meters kept; the longest unused is forgotten first, since clients name sessions.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, most: int = 50_000) -> None:
        self._clock = clock
        self._most = most
        self._windows: OrderedDict[str, Window] = OrderedDict()

    def take(self, wanted: Iterable[tuple[Meter, int]]) -> list[Taken]:
        """Count every cost with its meter, or none of them.

        Raises:
            WindowFullError: One is full; nothing was counted.
        """
        now = self._clock()
        found = [(meter, self._window(meter), cost) for meter, cost in wanted]
        for meter, window, cost in found:
            if window.left(now) < cost:
                raise WindowFullError(meter, window.wait_s(cost, now))
        return [Taken(meter, window, window.take(cost, now), cost) for meter, window, cost in found]

    def correct(self, taken: Taken, cost: int) -> None:
        """Count `cost` instead of what was estimated."""
        taken.window.correct(taken.bucket, cost - taken.cost, self._clock())
        taken.cost = cost

    def standing(self, meters: Iterable[Meter]) -> list[Standing]:
        """How these meters stand now."""
        now = self._clock()
        return [
            Standing(meter, window.left(now), window.reset_s(now))
            for meter in meters
            for window in [self._window(meter)]
        ]

    def _window(self, meter: Meter) -> Window:
        window = self._windows.get(meter.name)
        if window is None:
            period_s = PERIOD_S[meter.limit.per]
            window = self._windows[meter.name] = Window(meter.amount, period_s)
            if len(self._windows) > self._most:
                self._windows.popitem(last=False)
        else:
            self._windows.move_to_end(meter.name)
        return window
