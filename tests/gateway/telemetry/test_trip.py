"""What a trip makes of the calls it hears of: retries, fallbacks, hedges, time upstream."""

from __future__ import annotations

from typing import Any

import pytest

from experts.cards import ExpertCard
from gateway.booking import Attempt
from gateway.telemetry import trip as trips
from gateway.telemetry.access_log import AccessLog
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.redaction import Redactor
from gateway.telemetry.trip import Telemetry, Trip


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(trips, "time", clock)
    return clock


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def trip(clock: Clock, metrics: Metrics) -> Trip:
    return Telemetry(metrics, Redactor(), AccessLog(0)).begin("openai.chat", {})


def begun(trip: Trip, clock: Clock, expert: str, number: int) -> Attempt:
    attempt = Attempt(f"att-{number}", ExpertCard(expert), None, clock.now)
    trip.attempt_began(attempt)
    return attempt


def phases(trip: Trip) -> dict[str, float]:
    pairs = (part.strip().split(";dur=") for part in trip.server_timing().split(","))
    return {name: float(value) for name, value in pairs}


def test_the_same_expert_again_is_a_retry_and_another_one_a_fallback(
    trip: Trip, clock: Clock, metrics: Metrics
) -> None:
    for number, expert in enumerate(["a", "a", "b", "a"]):
        trip.attempt_ended(begun(trip, clock, expert, number), "failed", "timeout", None)
    assert metrics.retries.values == {("a",): 1}
    assert metrics.fallbacks.values == {("b",): 1, ("a",): 1}
    assert metrics.hedges.values == {}


def test_a_call_beside_another_is_a_hedge_and_time_is_not_counted_twice(
    trip: Trip, clock: Clock, metrics: Metrics
) -> None:
    clock.now += 1
    slow = begun(trip, clock, "a", 1)
    clock.now += 2
    fast = begun(trip, clock, "b", 2)
    clock.now += 3
    trip.attempt_ended(fast, "ok", None, None)
    trip.attempt_ended(slow, "cancelled", None, None)
    clock.now += 4
    assert metrics.hedges.values == {("b",): 1}
    assert metrics.fallbacks.values == {}
    assert phases(trip)["upstream"] == 5_000
    assert phases(trip)["overhead"] == 5_000


def test_server_timing_counts_a_call_that_still_goes_on(trip: Trip, clock: Clock) -> None:
    clock.now += 0.001
    trip.admitted()
    begun(trip, clock, "a", 1)
    clock.now += 0.0025
    found = phases(trip)
    assert (found["admit"], found["upstream"], found["overhead"]) == (1.0, 2.5, 1.0)


def test_a_call_that_was_announced_and_not_made_closes_no_other(trip: Trip, clock: Clock) -> None:
    running = begun(trip, clock, "a", 1)
    announced = Attempt("att-2", ExpertCard("b"), None, clock.now)
    trip.attempt_ended(announced, "not_sent", None, None)
    clock.now += 1
    assert phases(trip)["upstream"] == 1_000
    trip.attempt_ended(running, "ok", None, None)
    clock.now += 1
    assert phases(trip)["upstream"] == 1_000


def test_waiting_for_the_ledger_beside_a_call_is_not_the_ledgers_time(
    trip: Trip, clock: Clock
) -> None:
    trip.recorded(0.5)
    begun(trip, clock, "a", 1)
    trip.recorded(0.25)
    assert trip.ledger_s == 0.5


def test_a_request_that_ends_before_its_call_was_upstream_until_then(
    trip: Trip, clock: Clock, metrics: Metrics
) -> None:
    clock.now += 1
    attempt = begun(trip, clock, "a", 1)
    clock.now += 2
    trip.end(499, "client_cancelled")
    assert trip.upstream_s == 2
    assert metrics.overhead.cell(("false",)).total == 1
    clock.now += 4
    trip.attempt_ended(attempt, "cancelled", None, None)
    assert metrics.running == {"a": 0}


def test_a_request_ends_once(trip: Trip, metrics: Metrics) -> None:
    assert metrics.in_flight == 1
    trip.end(499, "client_left")
    trip.end(200)
    assert metrics.in_flight == 0
    assert metrics.requests.values == {("openai.chat", "none", "none", "499"): 1}


@pytest.mark.parametrize("kind", ["Bad Kind", "x" * 49, "", "sk-123456"])
def test_odd_error_kinds_are_one_label(trip: Trip, metrics: Metrics, kind: Any) -> None:
    trip.end(400, kind)
    assert metrics.errors.values == {("openai.chat", "other"): 1}
