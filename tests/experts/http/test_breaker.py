from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    precondition,
    rule,
)

from experts.http.breaker import Breaker, BreakerRules, BreakerState

RULES = BreakerRules(failures=3, rate=0.5, window=6, open_s=4.0, max_open_s=20.0, probe_s=30.0)


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def broken(clock: Clock, rules: BreakerRules = RULES) -> Breaker:
    breaker = Breaker(rules, clock)
    for _ in range(rules.failures):
        breaker.failed(admitted(breaker))
    return breaker


def state_of(breaker: Breaker) -> BreakerState:
    return breaker.state


def admitted(breaker: Breaker) -> int:
    ticket = breaker.admit()
    assert ticket is not None
    return ticket


def test_failures_in_a_row_open_it_and_a_success_between_does_not() -> None:
    breaker = Breaker(RULES, Clock())
    for report in (breaker.failed, breaker.failed, breaker.succeeded, breaker.failed):
        report(admitted(breaker))
    assert state_of(breaker) is BreakerState.CLOSED
    breaker.failed(admitted(breaker))
    breaker.succeeded(admitted(breaker))
    breaker.failed(admitted(breaker))
    assert state_of(breaker) is BreakerState.OPEN, "half of the last six failed"


def test_an_open_breaker_lets_exactly_one_probe_through_when_its_time_has_come() -> None:
    clock = Clock()
    breaker = broken(clock)
    assert breaker.admit() is None
    clock.now += 4
    probe = admitted(breaker)
    assert state_of(breaker) is BreakerState.HALF_OPEN
    assert breaker.admit() is None
    breaker.succeeded(probe)
    assert state_of(breaker) is BreakerState.CLOSED
    assert breaker.admit() is not None


def test_each_failed_probe_doubles_the_cool_down_up_to_its_bound() -> None:
    clock = Clock()
    breaker = broken(clock)
    waits = []
    for _ in range(5):
        waits.append(breaker.wait_s())
        clock.now += breaker.wait_s()
        breaker.failed(admitted(breaker))
    assert waits == [4, 8, 16, 20, 20]


def test_a_first_cool_down_longer_than_the_longest_is_not_cut() -> None:
    clock = Clock()
    breaker = broken(clock, replace(RULES, open_s=60.0))
    waits = []
    for _ in range(2):
        waits.append(breaker.wait_s())
        clock.now += breaker.wait_s()
        breaker.failed(admitted(breaker))
    assert waits == [60, 60]


@pytest.mark.parametrize("every_s", [0.1, 1.0, 4.0])
@pytest.mark.parametrize("outage_s", [20, 60, 300, 3600])
def test_by_default_an_expert_is_back_soon_after_an_outage_however_long(
    every_s: float, outage_s: float
) -> None:
    clock = Clock()
    breaker = Breaker(clock=clock)
    over, probes = clock.now + outage_s, 0
    while clock.now < over:
        if (ticket := breaker.admit()) is not None:
            breaker.failed(ticket)
            probes += 1
        clock.now += every_s
    while (ticket := breaker.admit()) is None:
        clock.now += every_s
    breaker.succeeded(ticket)
    assert clock.now - over < 20, "a quarter of a minute, and until the next request"
    assert probes <= 8 + outage_s / 15, "and it was left alone meanwhile"


def test_a_call_from_before_it_opened_does_not_speak_for_the_probe() -> None:
    clock = Clock()
    breaker = Breaker(RULES, clock)
    early = admitted(breaker)
    for _ in range(RULES.failures):
        breaker.failed(admitted(breaker))
    clock.now += 4
    admitted(breaker)
    for report in (breaker.succeeded, breaker.failed, breaker.abandoned):
        report(early)
        assert state_of(breaker) is BreakerState.HALF_OPEN
        assert breaker.admit() is None


def test_an_abandoned_probe_makes_room_for_another() -> None:
    clock = Clock()
    breaker = broken(clock)
    clock.now += 4
    breaker.abandoned(admitted(breaker))
    assert breaker.admit() is not None


def test_a_probe_that_never_reports_does_not_keep_it_shut_for_ever() -> None:
    clock = Clock()
    breaker = broken(clock)
    clock.now += 4
    lost = admitted(breaker)
    clock.now += RULES.probe_s
    second = admitted(breaker)
    breaker.failed(lost)
    assert state_of(breaker) is BreakerState.HALF_OPEN
    breaker.succeeded(second)
    assert state_of(breaker) is BreakerState.CLOSED


@pytest.mark.parametrize("seconds", [1.0, 3.9])
def test_a_shorter_pause_does_not_shorten_a_longer_one(seconds: float) -> None:
    clock = Clock()
    breaker = broken(clock)
    breaker.cool(10)
    breaker.cool(seconds)
    assert breaker.wait_s() == 10
    clock.now += 10
    assert breaker.admit() is not None


def test_a_cool_down_is_cut_only_if_the_rules_say_so() -> None:
    for alone_s, hastened in [(1.0, True), (0.0, False)]:
        breaker = broken(Clock(), replace(RULES, alone_s=alone_s))
        assert breaker.hasten() is hastened
        assert breaker.wait_s() == (alone_s or RULES.open_s)


class BreakerModel(RuleBasedStateMachine):
    """The breaker beside a plain account of what was reported."""

    tickets = Bundle("tickets")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.breaker = Breaker(RULES, self.clock)
        self.results: list[bool] = []
        """Of calls in full service since it last came back; True is a failure."""
        self.state = BreakerState.CLOSED
        self.openings = 0
        self.opened_at = self.shut_until = 0.0
        self.pause_until = 0.0
        self.probe: tuple[int, float] | None = None
        self.current: set[int] = set()

    @rule(seconds=st.sampled_from([0.5, 1.0, 4.0, 8.0, 31.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule(seconds=st.sampled_from([0.5, 3.0, 12.0]))
    def pause(self, seconds: float) -> None:
        before = self.breaker.wait_s()
        self.breaker.cool(seconds)
        self.pause_until = max(self.pause_until, self.clock.now + seconds)
        assert self.breaker.wait_s() >= max(before, seconds)

    @rule()
    def hasten(self) -> None:
        assert self.breaker.hasten() == (self.state is BreakerState.OPEN)
        if self.state is BreakerState.OPEN:
            self.shut_until = min(self.shut_until, self.opened_at + RULES.alone_s)

    @rule(target=tickets)
    def call(self) -> object:
        ticket = self.breaker.admit()
        assert (ticket is not None) == self.may_call(), (self.state, self.clock.now)
        if ticket is None:
            return multiple()
        if self.state is not BreakerState.CLOSED:
            self.state = BreakerState.HALF_OPEN
            self.current = {ticket}
            self.probe = (ticket, self.clock.now)
        self.current.add(ticket)
        return ticket

    def may_call(self) -> bool:
        now = self.clock.now
        if now < self.pause_until:
            return False
        if self.state is BreakerState.OPEN:
            return now >= self.shut_until
        if self.state is BreakerState.HALF_OPEN and self.probe is not None:
            return now >= self.probe[1] + RULES.probe_s
        return True

    @rule(ticket=consumes(tickets))
    def succeed(self, ticket: int) -> None:
        self.breaker.succeeded(ticket)
        if ticket not in self.current:
            return
        if self.state is BreakerState.HALF_OPEN:
            self.state, self.openings, self.results = BreakerState.CLOSED, 0, []
            self.probe, self.current = None, set()
        else:
            self.results.append(False)

    @rule(ticket=consumes(tickets))
    def fail(self, ticket: int) -> None:
        self.breaker.failed(ticket)
        if ticket not in self.current:
            return
        self.results.append(True)
        last = self.results[-RULES.window :]
        in_a_row = self.results[-RULES.failures :] == [True] * RULES.failures
        too_many = len(last) == RULES.window and sum(last) >= RULES.rate * RULES.window
        if self.state is BreakerState.HALF_OPEN or in_a_row or too_many:
            cool_down = min(RULES.max_open_s, RULES.open_s * 2**self.openings)
            self.opened_at = self.clock.now
            self.shut_until = max(self.shut_until, self.clock.now + cool_down)
            self.state, self.openings = BreakerState.OPEN, self.openings + 1
            self.probe, self.current = None, set()

    @rule(ticket=consumes(tickets))
    def abandon(self, ticket: int) -> None:
        self.breaker.abandoned(ticket)
        if ticket in self.current and self.state is BreakerState.HALF_OPEN:
            self.probe = None

    @precondition(lambda self: self.state is BreakerState.HALF_OPEN and self.probe is not None)
    @invariant()
    def at_most_one_probe(self) -> None:
        assert self.probe is not None
        assert self.current == {self.probe[0]}

    @invariant()
    def same_state(self) -> None:
        assert self.breaker.state is self.state


TestBreakerModel = BreakerModel.TestCase
TestBreakerModel.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
