"""A circuit breaker: who fails too often is left alone for a while. Pure; time is an argument."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum


class BreakerState(Enum):
    """What a breaker lets through."""

    CLOSED = "closed"
    """Every call."""
    OPEN = "open"
    """None until the cool-down is over."""
    HALF_OPEN = "half_open"
    """One probe at a time; how it ends decides."""


@dataclass(frozen=True, slots=True)
class BreakerRules:
    """When a breaker opens and for how long.

    Attributes:
        failures: Opens after so many failures in a row, >= 1.
        rate: Opens when at least this share of the last `window` calls failed, in (0, 1].
        window: How many calls back `rate` looks; it needs that many before it says anything.
        open_s: First cool-down; it doubles each time a probe fails.
        max_open_s: Longest cool-down, unless `open_s` is longer.
        probe_s: A probe that has not reported by then is taken for lost and another let through.
        max_pause_s: Longest pause that it can ask for.
        alone_s: Longest cool-down once somebody asks for it who has nobody else; 0: the usual one.
    """

    failures: int = 5
    rate: float = 0.75
    window: int = 20
    open_s: float = 5.0
    max_open_s: float = 15.0
    probe_s: float = 60.0
    max_pause_s: float = 60.0
    alone_s: float = 1.0


class Breaker:
    """The state machine of one expert or endpoint.

    `admit` gives a ticket, and whoever got it reports with it exactly once. Each change of state
    starts a new era, and a report with the ticket of an earlier one changes nothing: calls that
    began before the breaker opened can't close it, open it again or free the place of a probe.

    Besides failures there is `cool`: an expert that asked for a pause is left alone until then,
    whatever the state.
    """

    __slots__ = (
        "_clock",
        "_cool_until",
        "_era",
        "_failures",
        "_history",
        "_open_until",
        "_opened_at",
        "_openings",
        "_probe_since",
        "_rules",
        "_seen",
        "_state",
    )

    def __init__(
        self, rules: BreakerRules | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rules = rules or BreakerRules()
        self._clock = clock
        self._state = BreakerState.CLOSED
        self._era = 0
        self._failures = 0
        self._history = 0
        """The last `window` calls as bits, 1 for a failure, newest lowest."""
        self._seen = 0
        self._openings = 0
        self._opened_at = self._open_until = 0.0
        self._cool_until = 0.0
        self._probe_since: float | None = None

    @property
    def state(self) -> BreakerState:
        """OPEN turns HALF_OPEN with the call that asks, not with the clock."""
        return self._state

    @property
    def sound(self) -> bool:
        """Closed and not cooling, as far as is known without looking at the clock."""
        return self._state is BreakerState.CLOSED and not self._cool_until

    def admit(self) -> int | None:
        """A ticket for one call, or None: leave it alone."""
        if self.sound:
            return self._era
        if self.wait_s() > 0:
            return None
        self._cool_until = 0.0
        if self._state is not BreakerState.CLOSED:
            self._enter(BreakerState.HALF_OPEN)
            self._probe_since = self._clock()
        return self._era

    def wait_s(self) -> float:
        """Seconds until `admit` may give a ticket; 0 when it would now."""
        if self.sound:
            return 0.0
        until = self._cool_until
        if self._state is BreakerState.OPEN:
            until = max(until, self._open_until)
        elif self._probe_since is not None:
            until = max(until, self._probe_since + self._rules.probe_s)
        return max(0.0, until - self._clock())

    def succeeded(self, ticket: int) -> None:
        """The call came through."""
        if ticket != self._era:
            return
        self._failures = 0
        if self._state is BreakerState.HALF_OPEN:
            self._openings = self._history = self._seen = 0
            self._enter(BreakerState.CLOSED)
        elif self._history:
            self._remember(failed=False)
        elif self._seen < self._rules.window:
            self._seen += 1

    def failed(self, ticket: int) -> None:
        """The call failed in a way that counts."""
        if ticket != self._era:
            return
        self._failures += 1
        self._remember(failed=True)
        if self._state is BreakerState.HALF_OPEN or self._too_many():
            self._open()

    def abandoned(self, ticket: int) -> None:
        """The call ended without telling anything, e.g. because its client left."""
        if ticket == self._era:
            self._probe_since = None

    def cool(self, seconds: float) -> None:
        """Leave it alone for `seconds`; a pause that already lasts longer is not shortened."""
        pause_s = min(seconds, self._rules.max_pause_s)
        self._cool_until = max(self._cool_until, self._clock() + pause_s)

    def hasten(self) -> bool:
        """Cut an open breaker's cool-down for who has nobody else to ask; False: it is not cut."""
        alone_s = self._rules.alone_s
        if self._state is not BreakerState.OPEN or not alone_s:
            return False
        self._open_until = min(self._open_until, self._opened_at + alone_s)
        return True

    def _remember(self, *, failed: bool) -> None:
        window = self._rules.window
        self._history = ((self._history << 1) | failed) & ((1 << window) - 1)
        self._seen = min(self._seen + 1, window)

    def _too_many(self) -> bool:
        rules = self._rules
        if self._failures >= rules.failures:
            return True
        return self._seen >= rules.window and (
            self._history.bit_count() >= rules.rate * rules.window
        )

    def _open(self) -> None:
        rules = self._rules
        longest = max(rules.max_open_s, rules.open_s)
        seconds = min(longest, rules.open_s * 2.0 ** min(self._openings, 30))
        self._openings += 1
        self._opened_at = self._clock()
        self._open_until = max(self._open_until, self._opened_at + seconds)
        self._enter(BreakerState.OPEN)

    def _enter(self, state: BreakerState) -> None:
        self._state = state
        self._era += 1
        self._failures = 0
        self._probe_since = None
