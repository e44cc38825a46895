from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from experts.errors import (
    ExpertAuthError,
    ExpertCallError,
    ExpertConnectionError,
    ExpertContextError,
    ExpertProtocolError,
    ExpertRateLimitedError,
    ExpertRejectedError,
    ExpertTimeoutError,
    ExpertUnavailableError,
)
from experts.http.breaker import BreakerRules, BreakerState
from gateway.execution.health import Health

RULES = BreakerRules(failures=2, open_s=4.0)


@dataclass
class Clock:
    now: float = 50.0

    def __call__(self) -> float:
        return self.now


def failing(health: Health, error: ExpertCallError, times: int = 2) -> None:
    for _ in range(times):
        health.record("a", error, health.admit("a"))


@pytest.mark.parametrize(
    "error",
    [
        ExpertTimeoutError("a", "slow"),
        ExpertConnectionError("a", "refused"),
        ExpertUnavailableError("a", "500"),
        ExpertProtocolError("a", "cut"),
    ],
    ids=lambda error: error.kind,
)
def test_failures_of_the_expert_take_it_out_of_service(error: ExpertCallError) -> None:
    health = Health(RULES, clock=Clock())
    failing(health, error)
    assert health.admit("a") is None
    assert list(health.reasons()) == ["a"]
    assert "4.0 s" in health.reasons()["a"]
    assert health.admit("b") is not None


@pytest.mark.parametrize(
    "error",
    [
        ExpertRejectedError("a", "bad"),
        ExpertContextError("a", "long"),
        ExpertAuthError("a", "key"),
    ],
    ids=lambda error: error.kind,
)
def test_a_refusal_is_a_sign_of_health(error: ExpertCallError) -> None:
    health = Health(RULES, clock=Clock())
    failing(health, error, 50)
    assert health.reasons() == {}


def test_an_expert_comes_back_with_its_first_good_probe() -> None:
    clock = Clock()
    health = Health(RULES, clock=clock)
    failing(health, ExpertUnavailableError("a", "500"))
    clock.now += 4
    assert health.reasons() == {}, "a probe has to be routed to it"
    ticket = health.admit("a")
    assert list(health.reasons()) == ["a"], "one probe is enough"
    health.record("a", None, ticket)
    assert (health.reasons(), health.state("a")) == ({}, BreakerState.CLOSED)


def test_a_provider_that_asks_for_a_pause_gets_it_up_to_our_bound() -> None:
    clock = Clock()
    health = Health(replace(RULES, max_pause_s=30), clock=clock)
    failing(health, ExpertRateLimitedError("a", "429", retry_after_s=7), 1)
    assert health.wait_s("a") == 7
    assert "pause" in health.reasons()["a"]
    clock.now += 7
    assert health.reasons() == {}
    failing(health, ExpertRateLimitedError("a", "429", retry_after_s=9999), 1)
    assert health.wait_s("a") == 30


def test_an_overloaded_provider_may_ask_for_a_pause_too() -> None:
    health = Health(RULES, clock=Clock())
    failing(health, ExpertUnavailableError("a", "503", retry_after_s=3), 1)
    assert (health.wait_s("a"), health.state("a")) == (3, BreakerState.CLOSED)
    failing(health, ExpertUnavailableError("b", "503"), 1)
    failing(health, ExpertRejectedError("c", "400", retry_after_s=3), 1)
    assert (health.wait_s("b"), health.wait_s("c")) == (0, 0)


def test_pauses_nobody_gave_a_length_grow_until_a_call_comes_through() -> None:
    clock = Clock()
    health = Health(RULES, clock=clock)
    waits = []
    for _ in range(5):
        failing(health, ExpertRateLimitedError("a", "429"), 1)
        waits.append(health.wait_s("a"))
        clock.now += health.wait_s("a")
    health.record("a", None, health.admit("a"))
    failing(health, ExpertRateLimitedError("a", "429"), 1)
    assert [*waits, health.wait_s("a")] == [0.5, 1, 2, 4, 4, 0.5]


def test_a_report_without_a_ticket_does_not_disturb_a_probe() -> None:
    clock = Clock()
    health = Health(RULES, clock=clock)
    health.record("a", ExpertUnavailableError("a", "500"))
    health.record("a", ExpertUnavailableError("a", "500"))
    assert health.admit("a") is None
    clock.now += 4
    assert health.admit("a") is not None
    health.record("a", None)
    assert health.state("a") is BreakerState.HALF_OPEN


def test_an_abandoned_probe_leaves_room_for_the_next() -> None:
    clock = Clock()
    health = Health(RULES, clock=clock)
    failing(health, ExpertUnavailableError("a", "500"))
    clock.now += 4
    ticket = health.admit("a")
    assert ticket is not None
    health.abandon("a", ticket)
    assert health.admit("a") is not None


def test_during_a_probe_clients_are_told_to_come_back_soon() -> None:
    clock = Clock()
    health = Health(RULES, clock=clock)
    failing(health, ExpertUnavailableError("a", "500"))
    assert health.retry_after_s("a") == 4
    clock.now += 4
    assert health.admit("a") is not None
    assert health.wait_s("a") == 60
    assert health.retry_after_s("a") == 1
    assert health.reasons() == {"a": "failed too often, is being tried again"}
