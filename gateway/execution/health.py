"""Which experts are in service: one breaker for each, fed by how calls to it end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from experts.errors import ExpertCallError, ExpertRateLimitedError
from experts.http.breaker import Breaker, BreakerRules, BreakerState
from experts.taxonomy import PAUSING, handling
from gateway.residency.residents import NOBODY_LIVES_HERE, Residents

_PAUSE_S = 0.5
"""First pause after a 429 that does not say how long; it doubles while they follow each other."""
_DOUBLINGS = 3
"""As often at most: what is only guessed must not keep requests away for long."""


class Health:
    """The state of every expert as its callers see it. Lives on the event loop; never waits.

    Args:
        rules: When to open a breaker.
        clock: Seconds, never going back.
        residents: Whose engines may be down.
    """

    def __init__(
        self,
        rules: BreakerRules | None = None,
        clock: Callable[[], float] = time.monotonic,
        residents: Residents = NOBODY_LIVES_HERE,
    ) -> None:
        self._rules = rules or BreakerRules()
        self._residents = residents
        self._clock = clock
        self._breakers: dict[str, Breaker] = {}
        self._unsound: dict[str, Breaker] = {}
        self._pauses: dict[str, int] = {}

    def admit(self, expert_id: str) -> int | None:
        """A ticket for one call, to be handed to `record` or `abandon`; None: don't call it."""
        breaker = self._breakers.get(expert_id)
        return (breaker or self._new(expert_id)).admit()

    def record(
        self, expert_id: str, error: ExpertCallError | None, ticket: int | None = None
    ) -> None:
        """How a call ended. An expert that refuses a request is in good health.

        Without a ticket it counts only while the expert is in full service.
        """
        breaker = self._breakers.get(expert_id) or self._new(expert_id)
        if ticket is None:
            if not breaker.sound:
                return
            ticket = breaker.admit() or 0
        if error is None:
            breaker.succeeded(ticket)
            if self._pauses:
                self._pauses.pop(expert_id, None)
            return
        if pause_s := self._pause(expert_id, error):
            breaker.cool(pause_s)
        if handling(error).counts:
            breaker.failed(ticket)
        else:
            breaker.succeeded(ticket)
        if not breaker.sound:
            self._unsound[expert_id] = breaker

    def abandon(self, expert_id: str, ticket: int) -> None:
        """A call ended without telling anything: its client left, or another one was faster."""
        self._breakers[expert_id].abandoned(ticket)

    def wait_s(self, expert_id: str) -> float:
        """Seconds until it may be called; 0 when it may be now."""
        if expert_id in self._residents.out:
            return self._residents.retry_s(expert_id)
        breaker = self._breakers.get(expert_id)
        return breaker.wait_s() if breaker else 0.0

    def hasten(self, expert_id: str) -> bool:
        """Have an expert that is out of service tried again soon; False if that can't be."""
        breaker = self._breakers.get(expert_id)
        return breaker is not None and breaker.hasten()

    def retry_after_s(self, expert_id: str) -> float:
        """Seconds after which a client may well ask again: a probe is sooner over than given up."""
        probing = self.state(expert_id) is BreakerState.HALF_OPEN
        return min(self.wait_s(expert_id), 1.0) if probing else self.wait_s(expert_id)

    def state(self, expert_id: str) -> BreakerState:
        """The state of its breaker."""
        breaker = self._breakers.get(expert_id)
        return breaker.state if breaker else BreakerState.CLOSED

    def reasons(self) -> Mapping[str, str]:
        """Experts that are out of service just now, and why: what routing leaves out."""
        if not self._unsound:
            return self._residents.out
        found = dict(self._residents.out)
        for expert_id, breaker in list(self._unsound.items()):
            if breaker.wait_s() > 0:
                found[expert_id] = _reason(breaker)
            elif breaker.state is BreakerState.CLOSED:
                del self._unsound[expert_id]
        return found

    def why(self, expert_id: str) -> str:
        """Why it may not be called just now, as a sentence."""
        if (why := self._residents.out.get(expert_id)) is not None:
            return why
        breaker = self._breakers.get(expert_id)
        return f"it {_reason(breaker)}" if breaker else "it may be called"

    def _new(self, expert_id: str) -> Breaker:
        breaker = self._breakers[expert_id] = Breaker(self._rules, self._clock)
        return breaker

    def _pause(self, expert_id: str, error: ExpertCallError) -> float:
        """Seconds for which it wants to be left alone: as it says, or as we guess after a 429."""
        if not isinstance(error, PAUSING):
            return 0.0
        if error.retry_after_s is not None or not isinstance(error, ExpertRateLimitedError):
            return error.retry_after_s or 0.0
        before = self._pauses.get(expert_id, 0)
        self._pauses[expert_id] = before + 1
        return _PAUSE_S * 2.0 ** min(before, _DOUBLINGS)


def _reason(breaker: Breaker) -> str:
    if breaker.state is BreakerState.HALF_OPEN:
        return "failed too often, is being tried again"
    if breaker.state is BreakerState.CLOSED:
        return f"asked for a pause, {breaker.wait_s():.1f} s are left"
    return f"failed too often, tried again in {breaker.wait_s():.1f} s"
