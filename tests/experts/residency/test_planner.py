"""The planner keeps within memory, starves nobody, moves seldom, and pays in the simulator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.residency.simulate import Manager, OnDemand, Outcome, Planned, Request, simulate
from experts.residency.planner import Footprint, Moves, ResidencyPlanner, View

FOUR = {name: Footprint(1.0, 8.0) for name in "abcd"}


def planner(room: float = 2.0, **given: Any) -> ResidencyPlanner:
    return ResidencyPlanner(FOUR, room, **given)


class Watched(Planned):
    """Fails where a plan would need more memory than there is, or disturbs a call."""

    def __init__(self, made: ResidencyPlanner, memory: float, sizes: dict[str, Footprint]) -> None:
        super().__init__(made)
        inner = made.plan

        def plan(at: float, view: View) -> Moves:
            moves = inner(at, view)
            awake = {*view.awake, *view.moving, *moves.wake} - set(moves.sleep)
            assert sum(sizes[name].memory for name in awake) <= memory + 1e-9
            assert all(view.awake[name] == 0 for name in moves.sleep)
            assert not set(moves.wake) & (set(view.awake) | view.moving)
            return moves

        self.plan = plan


def a_row(seed: int, count: int, rate: float, stay: float) -> list[Request]:
    rng = np.random.default_rng(seed)
    share = 1 / np.arange(1, 13)
    share /= share.sum()
    at, row, name = 0.0, [], ""
    for _ in range(count):
        at += float(rng.exponential(1 / rate))
        if not name or rng.random() > stay:
            name = f"e{rng.choice(12, p=share):02d}"
        row.append(Request(at, name, float(rng.gamma(4, 0.5))))
    return row


TWELVE = {f"e{place:02d}": Footprint(1.0, 8.0) for place in range(12)}


def test_it_wakes_whoever_is_waited_for_into_free_memory() -> None:
    moves = planner().plan(0.0, View({}, waiting={"a": [0.0]}))
    assert moves == Moves(wake=("a",))


def test_whoever_is_asked_least_makes_room_and_not_whoever_waited_longest() -> None:
    made = planner()
    for at in range(30):
        made.asked("a", float(at))
    made.asked("b", 30.0)
    made.asked("c", 31.0)
    # By last use, a would have to go.
    moves = made.plan(31.0, View({"a": 0, "b": 0}, waiting={"c": [31.0]}))
    assert moves == Moves(sleep=("b",), wake=("c",))


@pytest.mark.parametrize(("others", "first"), [(3, "b"), (5, "c")])
def test_it_takes_many_to_outweigh_one_who_waited_twice_as_long(others: int, first: str) -> None:
    view = View({"a": 0}, waiting={"b": [0.0], "c": [2.0] * others})
    assert planner(room=1.0).plan(4.0, view).wake == (first,)


def test_who_is_busy_or_waited_for_makes_room_only_when_a_window_is_over() -> None:
    made = planner()
    view = View({"a": 1, "b": 0}, waiting={"b": [29.5], "c": [29.0]})
    assert made.plan(30.0, view) == Moves()
    assert made.due_at(30.0, view) == pytest.approx(59.0)
    assert made.plan(59.0, view) == Moves(sleep=("b",), wake=("c",))
    assert made.plan(59.0, View({"a": 1, "b": 2}, waiting={"c": [29.0]})).drain == ("a",)


def test_whoever_just_woke_stays() -> None:
    made = planner(room=1.0, stay=2.0, window_s=1.0)
    assert made.plan(0.0, View({}, waiting={"a": [0.0]})).wake == ("a",)
    view = View({"a": 0}, waiting={"b": [8.0]})
    assert made.plan(10.0, view) == Moves()
    assert made.due_at(10.0, view) == pytest.approx(24.0)
    assert made.plan(24.0, view) == Moves(sleep=("a",), wake=("b",))


def test_what_is_likely_is_fetched_into_free_memory_before_it_is_asked() -> None:
    made = planner(half_life_s=60.0)
    for at in range(30):
        made.asked("a", float(at), weight=0.9)
    assert made.plan(29.0, View({})).wake == ("a",)


def test_nobody_makes_room_for_what_is_only_likely() -> None:
    made = planner(room=1.0)
    for at in range(30):
        made.asked("a", float(at))
    assert made.plan(29.0, View({"b": 0})) == Moves()
    assert made.plan(29.0, View({"b": 0}, waiting={"a": [29.0]})).wake == ("a",)


def test_an_expert_that_fits_nowhere_is_refused() -> None:
    with pytest.raises(ValueError, match="expert 'big' takes 3 of memory, there is 2"):
        ResidencyPlanner({"big": Footprint(3.0, 1.0)}, 2.0)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    rate=st.floats(0.05, 4.0),
    stay=st.sampled_from([0.0, 0.8]),
    sizes=st.lists(st.sampled_from([1.0, 1.5, 2.0]), min_size=12, max_size=12),
)
def test_it_fits_serves_all_and_moves_no_faster_than_it_may(
    seed: int, rate: float, stay: float, sizes: list[float]
) -> None:
    experts = {name: Footprint(size, 8.0) for name, size in zip(TWELVE, sizes, strict=True)}
    made = ResidencyPlanner(experts, 4.0, stay=1.0)
    found = simulate(a_row(seed, 120, rate, stay), experts, Watched(made, 4.0, experts))
    assert all(wait >= 0 for wait in found.waits_s)
    # Each takes 8 s to wake and stays 8 s: no expert wakes twice within 16 s.
    for name, count in Counter(name for _, name in found.woken).items():
        times = [at for at, woken in found.woken if woken == name]
        assert all(after - before >= 16 - 1e-6 for before, after in pairwise(times)), name
        assert count == len(times)


def test_who_has_just_woken_is_not_chased_away_before_it_answers() -> None:
    slow = {name: Footprint(1.0, 30.0) for name in TWELVE}
    made = ResidencyPlanner(slow, 4.0, stay=0.0, window_s=5.0)
    found = simulate(a_row(5, 200, 0.3, 0.0), slow, Planned(made))
    # Each that wakes answers somebody.
    assert found.switches <= 200


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), window_s=st.sampled_from([5.0, 30.0]))
def test_in_thin_traffic_nobody_waits_beyond_window_service_and_moves(
    seed: int, window_s: float
) -> None:
    requests = a_row(seed, 60, 0.02, 0.0)
    longest = max(request.service_s for request in requests)
    made = ResidencyPlanner(TWELVE, 4.0, window_s=window_s)
    found = simulate(requests, TWELVE, Planned(made))
    assert max(found.waits_s) <= window_s + longest + 2 * 8.0


def run(kind: str, requests: list[Request]) -> Outcome:
    managers: dict[str, Callable[[], Manager]] = {
        "planner": lambda: Planned(ResidencyPlanner(TWELVE, 4.0)),
        "lru": lambda: OnDemand(TWELVE, 4.0, in_turn=False),
        "fcfs": lambda: OnDemand(TWELVE, 4.0, in_turn=True),
    }
    return simulate(requests, TWELVE, managers[kind]())


@pytest.mark.parametrize(("rate", "stay"), [(0.5, 0.0), (1.0, 0.0), (2.0, 0.8)])
def test_it_beats_first_come_first_served_by_far(rate: float, stay: float) -> None:
    requests = a_row(1, 1000, rate, stay)
    planned, in_turn = run("planner", requests), run("fcfs", requests)
    assert planned.switches <= 0.65 * in_turn.switches
    assert planned.wait_s(0.95) <= 0.5 * in_turn.wait_s(0.95)


@pytest.mark.parametrize(("rate", "stay"), [(0.5, 0.0), (1.0, 0.8), (2.0, 0.8)])
def test_it_wakes_less_than_least_recently_used_and_nobody_waits_longer_for_it(
    rate: float, stay: float
) -> None:
    rows = [a_row(seed, 1000, rate, stay) for seed in range(1, 4)]
    planned, lru = ([run(kind, row) for row in rows] for kind in ("planner", "lru"))
    assert sum(each.switches for each in planned) < 0.99 * sum(each.switches for each in lru)
    for share in (0.5, 0.95):
        ours = sum(each.wait_s(share) for each in planned)
        assert ours <= sum(each.wait_s(share) for each in lru) + 1e-9
    assert np.mean([each.waits_s for each in planned]) < np.mean([each.waits_s for each in lru])


def test_a_manager_that_forgets_somebody_is_found_out() -> None:
    class Idle:
        def asked(self, expert: str, at: float) -> None: ...

        def plan(self, at: float, view: View) -> Moves:
            return Moves()

        def due_at(self, at: float, view: View) -> float:
            return float("inf")

    with pytest.raises(RuntimeError, match="never served"):
        simulate([Request(0.0, "e00", 1.0)], TWELVE, Idle())
