"""How many extra calls this process may make: a budget, so that retries can't become a storm."""

from __future__ import annotations

import time
from collections.abc import Callable

_BURST_S = 10.0
"""The budget holds what so many seconds give, so that a quiet process can retry at once."""


class RetryBudget:
    """A token bucket: each request puts in a share of a retry, each second puts in some more.

    Asking an expert again and hedging take a token. Asking another expert does not: that is bounded
    by the number of attempts and by breakers, and refusing it would only lose the request.

    Args:
        ratio: Retries per request, >= 0.
        per_s: Retries per second whatever the number of requests, >= 0.
        clock: Seconds, never going back.
    """

    def __init__(
        self, ratio: float, per_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ratio = ratio
        self._per_s = per_s
        self._clock = clock
        self._most = max(_BURST_S * per_s, 10 * ratio)
        self._tokens = self._most
        self._at = clock()

    def request(self) -> None:
        """A request has come."""
        self._tokens = min(self._most, self._tokens + self._ratio)

    def spend(self) -> bool:
        """Take a retry, if there is one."""
        now = self._clock()
        self._tokens = min(self._most, self._tokens + (now - self._at) * self._per_s)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
