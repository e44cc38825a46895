from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experts.cards import ExpertCard
from experts.errors import (
    ExpertAuthError,
    ExpertBusyError,
    ExpertCallError,
    ExpertConnectionError,
    ExpertContextError,
    ExpertDivergedError,
    ExpertFilteredError,
    ExpertProtocolError,
    ExpertQuotaError,
    ExpertRateLimitedError,
    ExpertRejectedError,
    ExpertTimeoutError,
    ExpertUnavailableError,
)
from experts.http.breaker import BreakerRules
from gateway.execution.health import Health
from gateway.execution.plan import AttemptPlan, PlannedAttempt
from gateway.execution.purse import Rules
from gateway.execution.retries import RetryBudget
from gateway.execution.silence import Silence
from gateway.execution.slots import Slots
from gateway.execution.traffic import Traffic
from gateway.settings.execution import ExecutionSettings
from gateway.settings.limits import LimitSettings

LEFT_S = 60.0
WINDOWS = {"a": 1000, "b": 1000, "c": 5000, "d": None}


@dataclass
class Clock:
    now: float = 20.0

    def __call__(self) -> float:
        return self.now


class Case:
    """A plan over experts a, b, c, d and its surroundings."""

    def __init__(
        self,
        chain: str = "abcd",
        max_attempts: int = 16,
        alone_s: float = 0,
        named: bool = False,
        standby: str = "",
        **rules: Any,
    ) -> None:
        self.clock = Clock()
        breaker = BreakerRules(failures=1, open_s=30, alone_s=alone_s)
        self.health = Health(breaker, clock=self.clock)
        self.retries = RetryBudget(0.2, 10, self.clock)
        limits = LimitSettings(max_attempts=max_attempts)
        traffic = Traffic(
            limits,
            ExecutionSettings(**rules),
            self.health,
            Slots({}),
            self.retries,
            Silence(limits),
            {},
            Rules(64, 4, 4096, 16),
            np.random.default_rng(1),
        )
        cards = {
            name: ExpertCard(name, context_tokens=window, prefill=name == "d")
            for name, window in WINDOWS.items()
        }
        card = cards.__getitem__
        self.plan = AttemptPlan(tuple(chain), card, traffic, named=named, standby=standby)

    def out_of_service(self, name: str) -> None:
        self.health.record(name, ExpertUnavailableError(name, "500"), self.health.admit(name))

    def paused(self, name: str, seconds: float) -> None:
        error = ExpertRateLimitedError(name, "429", retry_after_s=seconds)
        self.health.record(name, error, self.health.admit(name))

    def next(self, *failures: ExpertCallError, resuming: bool = False) -> str | None:
        step = self.plan.next(failures, LEFT_S, resuming=resuming)
        return None if step is None else step.expert_id


def test_the_chosen_expert_is_asked_first_and_at_once() -> None:
    assert Case().plan.next([], LEFT_S) == PlannedAttempt("a")


GOES_ON = [
    ExpertConnectionError,
    ExpertTimeoutError,
    ExpertUnavailableError,
    ExpertProtocolError,
    ExpertRateLimitedError,
    ExpertQuotaError,
    ExpertBusyError,
]
STOPS = [ExpertAuthError, ExpertRejectedError, ExpertFilteredError]


@pytest.mark.parametrize("kind", GOES_ON, ids=lambda kind: kind.kind)
def test_another_expert_is_asked_at_once(kind: type[ExpertCallError]) -> None:
    assert Case().plan.next([kind("a", "x")], LEFT_S) == PlannedAttempt("b")


@pytest.mark.parametrize("kind", STOPS, ids=lambda kind: kind.kind)
def test_refusals_are_routed_around_only_if_that_is_configured(kind: Any) -> None:
    assert Case().next(kind("a", "x")) is None
    assert Case(fallback_on=[kind.kind]).next(kind("a", "x")) == "b"


def test_a_request_too_long_goes_only_to_larger_windows() -> None:
    assert Case().next(ExpertContextError("a", "x")) == "c"
    assert Case().next(ExpertContextError("a", "x"), ExpertContextError("c", "x")) == "d"
    assert Case("ab").next(ExpertContextError("a", "x")) is None
    assert Case("abc").next(ExpertUnavailableError("b", "x"), ExpertContextError("c", "x")) is None


def test_who_stands_by_is_asked_when_nothing_else_is_left() -> None:
    case = Case("ab", standby="cd", max_retries=1)
    fails = [ExpertUnavailableError("a", "x")]
    for name in ("b", "a", "b", "c", "d"):
        step = case.plan.next(fails, LEFT_S)
        assert step is not None
        # Retries of the others go first, whichever of them is due sooner.
        assert step.expert_id == name or {step.expert_id, name} == {"a", "b"}
        fails.append(ExpertUnavailableError(step.expert_id, "x"))
    timeouts = [ExpertTimeoutError(name, "x") for name in "ab"]
    assert case.next(*timeouts) == "c"
    assert case.next(*timeouts, ExpertTimeoutError("c", "x")) == "d"
    assert case.next(*timeouts, *(ExpertTimeoutError(name, "x") for name in "cd")) is None


def test_nobody_is_given_up_sooner_for_who_stands_by() -> None:
    case = Case("a", standby="b")
    assert not case.plan.has_other((), "a")
    assert case.plan.other_than((), "a") is None


@pytest.mark.parametrize("kind", STOPS, ids=lambda kind: kind.kind)
def test_a_refusal_is_not_taken_to_who_stands_by(kind: Any) -> None:
    assert Case("a", standby="b").next(kind("a", "x")) is None


def test_what_who_stands_by_refuses_others_may_not() -> None:
    case, late = Case("a", standby="bc"), ExpertTimeoutError("a", "x")
    refused = ExpertRejectedError("b", "no tools")
    assert case.next(late, refused) == "c"
    assert case.next(late, refused, ExpertRejectedError("c", "no tools")) is None
    assert case.next(late, ExpertFilteredError("b", "x")) is None
    # The client hears of who was to answer: their failure may pass, such a refusal would not.
    assert case.plan.told([late, refused]) == [refused, late]


def test_who_stands_by_is_asked_where_nobody_else_is_in_service() -> None:
    case = Case("a", standby="bc")
    case.out_of_service("a")
    case.out_of_service("b")
    assert case.next() == "c"


def test_who_is_out_of_service_is_passed_over() -> None:
    case = Case()
    case.out_of_service("a")
    case.out_of_service("b")
    assert case.next() == "c"


def test_with_nobody_in_service_nobody_is_asked() -> None:
    case = Case("a")
    case.out_of_service("a")
    assert case.next() is None
    assert case.plan.in_service_after_s() == 30


def test_with_nobody_else_who_is_out_of_service_is_tried_again_soon() -> None:
    case = Case("ab", alone_s=2)
    case.out_of_service("a")
    assert case.plan.next([], LEFT_S) == PlannedAttempt("b"), "as long as there is somebody else"
    case.out_of_service("b")
    step = case.plan.next([], LEFT_S)
    assert step is not None
    assert 2 <= step.wait_s <= 2.3
    again = case.plan.next([ExpertUnavailableError(name, "x") for name in "ab"], LEFT_S)
    assert again is not None
    assert 2 <= again.wait_s <= 2.3


AGAIN = [
    ExpertConnectionError,
    ExpertUnavailableError,
    ExpertProtocolError,
    ExpertRateLimitedError,
]


@pytest.mark.parametrize("kind", AGAIN, ids=lambda kind: kind.kind)
def test_the_same_expert_is_asked_again_after_a_growing_pause(kind: Any) -> None:
    case = Case("a", backoff_s=1.0, max_backoff_s=1.5)
    first = case.plan.next([kind("a", "x")], LEFT_S)
    second = case.plan.next([kind("a", "x")] * 2, LEFT_S)
    assert first is not None
    assert 0.5 <= first.wait_s <= 1.0
    assert second is not None
    assert 0.75 <= second.wait_s <= 1.5
    assert case.plan.next([kind("a", "x")] * 3, LEFT_S) is None


@pytest.mark.parametrize("kind", AGAIN, ids=lambda kind: kind.kind)
def test_an_expert_that_was_named_is_asked_once_more_before_its_stand_ins(kind: Any) -> None:
    case = Case(named=True, backoff_s=1.0)
    step = case.plan.next([kind("a", "x")], LEFT_S)
    assert step is not None
    assert step.expert_id == "a"
    assert 0.5 <= step.wait_s <= 1.0
    assert case.plan.next([kind("a", "x")] * 2, LEFT_S) == PlannedAttempt("b")
    assert case.next(kind("a", "x"), resuming=True) == "d", "another one may know how to go on"


@pytest.mark.parametrize(("asks_s", "then"), [(2, "a"), (4, "b")])
def test_a_named_expert_is_not_waited_for_longer_than_that(asks_s: float, then: str) -> None:
    case = Case(named=True, backoff_s=0.01)
    case.paused("a", asks_s)
    assert case.next(ExpertRateLimitedError("a", "x", retry_after_s=asks_s)) == then


def test_a_named_expert_is_left_when_asking_it_again_is_no_use() -> None:
    reset = ExpertConnectionError("a", "reset")
    for kind in (ExpertTimeoutError, ExpertQuotaError, ExpertBusyError):
        assert Case(named=True).next(kind("a", "x")) == "b"
    assert Case(named=True, max_retries=0).next(reset) == "b"
    assert Case(named=True, named_wait_s=0).next(reset) == "b"
    assert Case(named=True, backoff_s=7).next(reset) == "b"
    case = Case(named=True)
    case.out_of_service("a")
    assert case.next(reset) == "b"
    case = Case(named=True)
    while case.retries.spend():
        pass
    assert case.next(reset) == "b"


NOT_AGAIN = [ExpertTimeoutError, ExpertQuotaError, ExpertBusyError, *STOPS, ExpertContextError]


@pytest.mark.parametrize("kind", NOT_AGAIN, ids=lambda kind: kind.kind)
def test_some_failures_do_not_pass(kind: Any) -> None:
    assert Case("a").next(kind("a", "x")) is None


def test_an_expert_is_not_asked_again_while_it_is_out_of_service() -> None:
    case = Case("a")
    case.out_of_service("a")
    assert case.next(ExpertUnavailableError("a", "x")) is None


def test_a_pause_that_was_asked_for_is_kept() -> None:
    case = Case("a", backoff_s=0.01)
    case.paused("a", 3)
    step = case.plan.next([ExpertRateLimitedError("a", "x", retry_after_s=3)], LEFT_S)
    assert step is not None
    assert 3 <= step.wait_s < 3.1


@pytest.mark.parametrize("failed", [True, False], ids=["again", "at first"])
def test_a_timer_may_be_early_by_a_millisecond_without_breaking_a_pause(failed: bool) -> None:
    case = Case("a", backoff_s=1e-9)
    case.paused("a", 3)
    failures = [ExpertRateLimitedError("a", "x", retry_after_s=3)] if failed else []
    step = case.plan.next(failures, LEFT_S)
    assert step is not None
    case.clock.now += step.wait_s - 0.001
    assert case.health.admit("a") is not None


@pytest.mark.parametrize(
    ("left_s", "max_wait_s"), [(2.9, 10), (60, 2)], ids=["no time", "too long"]
)
def test_a_pause_that_is_too_long_is_not_waited_for(left_s: float, max_wait_s: float) -> None:
    case = Case("a", backoff_s=0.01, max_wait_s=max_wait_s)
    case.paused("a", 3)
    assert case.plan.next([ExpertRateLimitedError("a", "x", retry_after_s=3)], left_s) is None
    assert case.plan.next([], left_s) is None


def test_an_expert_that_pauses_is_waited_for_when_nobody_else_is_left() -> None:
    case = Case("ab", backoff_s=0.01)
    case.paused("a", 3)
    assert case.next() == "b"
    step = case.plan.next([ExpertTimeoutError("b", "x")], LEFT_S)
    assert step is not None
    assert step.expert_id == "a"
    assert 3 <= step.wait_s < 3.1


def test_another_endpoint_of_the_same_expert_comes_before_other_experts() -> None:
    failure = ExpertTimeoutError("a", "x")
    failure.spare = True
    case = Case()
    assert case.plan.next([failure], LEFT_S) == PlannedAttempt("a")
    while case.retries.spend():
        pass
    assert case.plan.next([failure], LEFT_S) == PlannedAttempt("b"), "that is a retry too"


def test_who_makes_the_last_call_is_not_given_up_for_one_that_may_not_be_made() -> None:
    failure = ExpertUnavailableError("a", "x")
    assert Case(max_attempts=3).plan.other_than([failure], "b") == "c"
    assert Case(max_attempts=2).plan.other_than([failure], "b") is None


def test_retries_stop_when_the_budget_is_spent_and_fallbacks_do_not() -> None:
    case = Case("ab", max_retries=10)
    while case.retries.spend():
        pass
    assert case.next(ExpertUnavailableError("a", "x")) == "b"
    failures = [ExpertUnavailableError("a", "x"), ExpertUnavailableError("b", "x")]
    assert case.next(*failures) is None
    case.clock.now += 0.1
    assert case.next(*failures) == "a"


def test_the_number_of_calls_is_bounded_and_calls_not_made_do_not_count() -> None:
    second = ExpertUnavailableError("b", "x")
    assert Case(max_attempts=2).next(ExpertUnavailableError("a", "x"), second) is None
    assert Case(max_attempts=2).next(ExpertBusyError("a", "x"), second) == "c"


def test_no_time_is_left() -> None:
    assert Case().plan.next([], 0) is None


def test_to_resume_prefill_comes_first_and_the_same_expert_last() -> None:
    cut = ExpertProtocolError("a", "cut")
    assert Case().next(cut, resuming=True) == "d"
    assert Case("abc").next(cut, resuming=True) == "b"
    diverged = ExpertDivergedError("b", "other words")
    assert Case("abc").next(cut, diverged, resuming=True) == "a"
    assert Case("abcd").next(cut, diverged, resuming=True) == "d"


ERRORS: list[Callable[..., ExpertCallError]] = [*GOES_ON, *STOPS, ExpertContextError]
FAILURES = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(ERRORS)), max_size=8)


@given(FAILURES, st.integers(1, 6), st.booleans(), st.booleans())
def test_whatever_failed_the_plan_ends_and_waits_no_longer_than_there_is_time(
    failures: list[tuple[str, Any]], max_attempts: int, resuming: bool, named: bool
) -> None:
    case = Case(max_attempts=max_attempts, backoff_s=0.01, named=named)
    so_far = [kind(name, "x") for name, kind in failures]
    for _ in range(20):
        step = case.plan.next(so_far, LEFT_S, resuming=resuming)
        if step is None:
            return
        assert step.wait_s < LEFT_S
        so_far.append(ExpertUnavailableError(step.expert_id, "500"))
    raise AssertionError("it goes on for ever")
