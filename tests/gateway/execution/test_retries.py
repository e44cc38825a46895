from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from gateway.execution.retries import RetryBudget


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def spent(budget: RetryBudget) -> int:
    return sum(budget.spend() for _ in range(1000))


def test_a_quiet_process_can_retry_at_once() -> None:
    assert spent(RetryBudget(0.2, 10, Clock())) == 100


def test_requests_and_seconds_fill_it_up_again() -> None:
    clock = Clock()
    budget = RetryBudget(0.25, 10, clock)
    spent(budget)
    for _ in range(40):
        budget.request()
    assert spent(budget) == 10
    clock.now += 2
    assert spent(budget) == 20
    clock.now += 3600
    assert spent(budget) == 100


def test_no_budget_means_no_retries() -> None:
    budget = RetryBudget(0, 0, Clock())
    budget.request()
    assert not budget.spend()


@given(st.lists(st.sampled_from(["request", "spend", "second"]), max_size=300))
def test_retries_never_exceed_what_was_put_in(steps: list[str]) -> None:
    clock = Clock()
    budget = RetryBudget(0.5, 2, clock)
    retried = 0
    for step in steps:
        if step == "request":
            budget.request()
        elif step == "second":
            clock.now += 1
        else:
            retried += budget.spend()
    most = 20 + 0.5 * steps.count("request") + 2 * steps.count("second")
    assert retried <= most
