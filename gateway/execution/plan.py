"""Who is asked next after which failures, and after how long a wait. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from experts.cards import ExpertCard
from experts.errors import ExpertCallError
from experts.http.breaker import BreakerState
from experts.taxonomy import handling
from gateway.execution.traffic import Traffic

_NOT_CALLED = ("busy", "out_of_service")
_EARLY_S = 0.002
"""Timers count whole milliseconds: they may be so early, and who asks before a pause is over is not
let in."""


@dataclass(frozen=True, slots=True)
class PlannedAttempt:
    """Ask `expert_id` after `wait_s` seconds."""

    expert_id: str
    wait_s: float = 0.0


class AttemptPlan:
    """The order in which experts are asked for one request.

    After a failure another expert is asked at once where `experts.taxonomy` allows it, then the
    same one again: at another endpoint at once, else after a pause, if there is time. An expert
    that was not chosen among others is asked once more before those that stand in for it. Those
    that don't say whether they can serve the request come when nothing else is left: nobody is
    given up sooner for them, and what they refuse others may not.

    Args:
        chain: Expert ids, the chosen one first.
        card: An expert's card by id.
        traffic: Rules, health and retry budget.
        named: The first one was not chosen among others, as when the client named it.
        standby: Those that don't say, the best first.

    Attributes:
        chain: Whom it may ask.
    """

    def __init__(
        self,
        chain: Sequence[str],
        card: Callable[[str], ExpertCard],
        traffic: Traffic,
        *,
        named: bool = False,
        standby: Sequence[str] = (),
    ) -> None:
        self.chain = tuple(chain)
        self._card = card
        self._traffic = traffic
        self._named = named
        self._standby = tuple(standby)

    def next(
        self, failures: Sequence[ExpertCallError], left_s: float, *, resuming: bool = False
    ) -> PlannedAttempt | None:
        """The next step, or None: nothing is left to be tried.

        Args:
            failures: Of this request so far, oldest first.
            left_s: Seconds until the deadline.
            resuming: Part of the answer was delivered; experts that can go on with it come first.
        """
        if not self.may_go_on(failures, left_s):
            return None
        if not failures:
            step = self._other(failures, resuming) or self._paused(failures, left_s)
            return step or self._last_resort(failures, resuming)
        last = failures[-1]
        if last.spare and self._traffic.retries.spend():
            return PlannedAttempt(last.expert_id)
        others_may = self._others_may(last)
        if not others_may and not handling(last).same:
            return None
        if self._named and not resuming and (step := self._named_again(failures, left_s)):
            return step
        if others_may and (step := self._other(failures, resuming)):
            return step
        sure = [failure for failure in failures if failure.expert_id not in self._standby]
        step = self._again(sure, left_s) or self._paused(failures, left_s)
        if step is None and others_may:
            step = self._last_resort(failures, resuming)
        return step if step or len(sure) == len(failures) else self._again(failures, left_s)

    def may_go_on(self, failures: Sequence[ExpertCallError], left_s: float) -> bool:
        """Whether a further call may be made at all, see `next`."""
        return left_s > 0 and self._attempts(failures) < self._traffic.limits.max_attempts

    def told(self, failures: Sequence[ExpertCallError]) -> list[ExpertCallError]:
        """The failures so that the last of those who say that they can is the last of all."""
        return sorted(failures, key=lambda failure: failure.expert_id not in self._standby)

    def has_other(self, failures: Sequence[ExpertCallError], trying: str) -> bool:
        """Whether somebody else could be asked if `trying` fails as well."""
        if self._attempts(failures) + 1 >= self._traffic.limits.max_attempts:
            return False
        tried = {trying, *(failure.expert_id for failure in failures)}
        return any(name not in tried for name in self._untried(failures))

    def other_than(self, failures: Sequence[ExpertCallError], trying: str) -> str | None:
        """Whom to ask besides `trying`, if anybody."""
        if not self.has_other(failures, trying):
            return None
        return next(name for name in self._untried(failures) if name != trying)

    def in_service_after_s(self) -> float:
        """Seconds until somebody of the chain may be asked."""
        return min(self._traffic.health.retry_after_s(name) for name in self.chain)

    def _attempts(self, failures: Sequence[ExpertCallError]) -> int:
        return sum(failure.kind not in _NOT_CALLED for failure in failures)

    def _others_may(self, failure: ExpertCallError) -> bool:
        if failure.kind == "invalid_request" and failure.expert_id in self._standby:
            return True
        return handling(failure).other or failure.kind in self._traffic.rules.fallback_on

    def _untried(
        self, failures: Sequence[ExpertCallError], among: Sequence[str] | None = None
    ) -> list[str]:
        """Those in service who have not been asked and could do what the others could not."""
        tried = {failure.expert_id for failure in failures}
        window = self._window_wanted(failures)
        return [
            name
            for name in (self.chain if among is None else among)
            if name not in tried
            and self._larger(name, window)
            and self._traffic.health.wait_s(name) <= 0
        ]

    def _other(self, failures: Sequence[ExpertCallError], resuming: bool) -> PlannedAttempt | None:
        return self._first(self._untried(failures), failures, resuming)

    def _last_resort(
        self, failures: Sequence[ExpertCallError], resuming: bool
    ) -> PlannedAttempt | None:
        return self._first(self._untried(failures, self._standby), failures, resuming)

    def _first(
        self, names: list[str], failures: Sequence[ExpertCallError], resuming: bool
    ) -> PlannedAttempt | None:
        if resuming:
            names.sort(key=lambda name: not self._card(name).prefill)
            if any(failure.kind == "diverged" for failure in failures):
                # Who begins anew will say it in other words too.
                names = [name for name in names if self._card(name).prefill]
        return PlannedAttempt(names[0]) if names else None

    def _named_again(
        self, failures: Sequence[ExpertCallError], left_s: float
    ) -> PlannedAttempt | None:
        """The expert that the client wants, once more, if it may be asked soon."""
        rules, health, named = self._traffic.rules, self._traffic.health, self.chain[0]
        if [failure.expert_id for failure in failures] != [named] or not rules.max_retries:
            return None
        if not handling(failures[0]).same or health.state(named) is not BreakerState.CLOSED:
            return None
        step = PlannedAttempt(named, self._pause_s(named, 1))
        if step.wait_s >= min(left_s, rules.named_wait_s) or not self._traffic.retries.spend():
            return None
        return step

    def _again(self, failures: Sequence[ExpertCallError], left_s: float) -> PlannedAttempt | None:
        """The expert that failed and is soonest worth asking again."""
        steps = [
            PlannedAttempt(name, self._pause_s(name, tries))
            for name, tries in self._may_be_retried(failures).items()
        ]
        steps = self._in_time(steps, left_s)
        if not steps or not self._traffic.retries.spend():
            return None
        return min(steps, key=lambda step: step.wait_s)

    def _may_be_retried(self, failures: Sequence[ExpertCallError]) -> Mapping[str, int]:
        """Expert id to how often it was asked."""
        tries: dict[str, int] = {}
        last = {failure.expert_id: failure for failure in failures}
        window = self._window_wanted(failures)
        for name, failure in last.items():
            times = sum(other.expert_id == name for other in failures)
            allowed = times <= self._traffic.rules.max_retries and handling(failure).same
            if allowed and self._larger(name, window) and self._may_be_tried(name):
                tries[name] = times
        return tries

    def _paused(self, failures: Sequence[ExpertCallError], left_s: float) -> PlannedAttempt | None:
        """An expert that is left alone, when that is over in time and nobody else is left."""
        tried = {failure.expert_id for failure in failures}
        window = self._window_wanted(failures)
        waits = [
            PlannedAttempt(name, self._wait_s(name) + self._jitter_s())
            for name in self.chain
            if name not in tried and self._larger(name, window) and self._may_be_tried(name)
        ]
        waits = self._in_time(waits, left_s)
        return min(waits, key=lambda step: step.wait_s) if waits else None

    def _may_be_tried(self, name: str) -> bool:
        """Whether an expert is in service, or will be soon for there is nobody else."""
        health = self._traffic.health
        return (
            health.state(name) is BreakerState.CLOSED
            or health.wait_s(name) <= 0
            or health.hasten(name)
        )

    def _in_time(self, steps: Sequence[PlannedAttempt], left_s: float) -> list[PlannedAttempt]:
        longest = min(left_s, self._traffic.rules.max_wait_s + self._traffic.rules.backoff_s)
        return [step for step in steps if step.wait_s < longest]

    def _wait_s(self, name: str) -> float:
        return self._traffic.health.wait_s(name)

    def _pause_s(self, name: str, tries: int) -> float:
        """Exponential, half of it by chance; never before the expert wants to be asked again."""
        rules = self._traffic.rules
        longest = min(rules.max_backoff_s, rules.backoff_s * 2.0 ** min(tries - 1, 30))
        backoff_s = longest * (0.5 + 0.5 * float(self._traffic.rng.random()))
        wait_s = self._wait_s(name)
        return max(backoff_s, wait_s + self._jitter_s()) if wait_s else backoff_s

    def _jitter_s(self) -> float:
        return _EARLY_S + self._traffic.rules.backoff_s * float(self._traffic.rng.random())

    def _window_wanted(self, failures: Sequence[ExpertCallError]) -> int:
        """Context window that was too small, in tokens; 0 if none was."""
        small = [self._card(f.expert_id).context_tokens for f in failures if handling(f).larger]
        return max((window or 0 for window in small), default=0)

    def _larger(self, name: str, window: int) -> bool:
        own = self._card(name).context_tokens
        return not window or own is None or own > window
