"""Room of each device is kept, made only where it is short, and found on several at a time."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from math import inf

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from benchmarks.residency.simulate import Planned, Request, simulate
from experts.residency.planner import Footprint, Moves, ResidencyPlanner, View

WAKE_S = 8.0
Footprints = dict[str, Footprint]


def on(where: str, takes: float) -> Footprint:
    """One that takes so much of each of these devices."""
    return Footprint(takes * len(where), WAKE_S, dict.fromkeys(where, takes))


pools = st.lists(
    st.builds(
        on, st.sampled_from(["0", "1", "2", "01", "12", "012"]), st.sampled_from([0.4, 1.0, 1.7])
    ),
    min_size=4,
    max_size=9,
).map(lambda row: {f"e{place}": each for place, each in enumerate(row)})
rooms = st.fixed_dictionaries({device: st.sampled_from([1.7, 2.1, 3.4]) for device in "012"})
totals = st.sampled_from([inf, 5.1])


def over(footprints: Footprints, awake: set[str], sizes: dict[str, float]) -> list[str]:
    """Devices, and "" for all of them together, of which these take more than there is."""
    taken: Counter[str] = Counter()
    for name in awake:
        taken.update(footprints[name].parts)
    return [part for part, size in sizes.items() if taken[part] > size + 1e-6]


class Watched(Planned):
    """Fails where a plan would need more of a device than there is, or disturbs a call."""

    def __init__(
        self, made: ResidencyPlanner, footprints: Footprints, sizes: dict[str, float]
    ) -> None:
        super().__init__(made)

        def plan(at: float, view: View) -> Moves:
            moves = made.plan(at, view)
            awake = {*view.awake, *view.moving, *moves.wake} - set(moves.sleep)
            assert over(footprints, awake, sizes) == []
            assert all(view.awake[name] == 0 for name in moves.sleep)
            return moves

        self.plan = plan


def a_row(names: list[str], seed: int, count: int, rate: float) -> list[Request]:
    rng = np.random.default_rng(seed)
    at_N = np.cumsum(rng.exponential(1 / rate, count))
    who_N, service_N = rng.integers(len(names), size=count), rng.gamma(4, 0.5, count)
    rows = zip(at_N, who_N, service_N, strict=True)
    return [Request(float(at), names[who], float(service)) for at, who, service in rows]


@settings(max_examples=25, deadline=None)
@given(pools, rooms, totals, st.integers(0, 10**6), st.floats(0.05, 4.0))
def test_no_device_holds_more_than_it_has_and_none_moves_faster_than_it_may(
    footprints: Footprints, devices: dict[str, float], total: float, seed: int, rate: float
) -> None:
    made = ResidencyPlanner(footprints, total, devices=devices, stay=1.0)
    watched = Watched(made, footprints, {"": total, **devices})
    found = simulate(a_row(list(footprints), seed, 100, rate), footprints, watched)
    for name in footprints:
        times = [at for at, woken in found.woken if woken == name]
        assert all(after - before >= 2 * WAKE_S - 1e-6 for before, after in pairwise(times)), name


@settings(max_examples=100, deadline=None)
@given(pools, rooms, totals, st.data())
def test_nobody_goes_whose_room_is_not_needed(
    footprints: Footprints, devices: dict[str, float], total: float, data: st.DataObject
) -> None:
    sizes = {"": total, **devices}
    made = ResidencyPlanner(footprints, total, devices=devices)
    wanted, *others = data.draw(st.permutations(sorted(footprints)))
    awake: set[str] = set()
    for name in others:
        if not over(footprints, {*awake, name}, sizes):
            awake.add(name)
    assume(awake)
    for place, name in enumerate(others):
        made.asked(name, 0.0, 1.0 + place)
    moves = made.plan(1.0, View(dict.fromkeys(awake, 0), waiting={wanted: [1.0]}))
    assert moves.wake == (wanted,)
    left = {*awake, wanted} - set(moves.sleep)
    assert over(footprints, left, sizes) == []
    for name in moves.sleep:
        assert over(footprints, {*left, name}, sizes), f"{name} went for nothing"


def test_who_is_asked_least_stays_where_another_device_is_short() -> None:
    footprints = {"rare": on("0", 1.0), "often": on("1", 1.0), "new": on("1", 1.0)}
    made = ResidencyPlanner(footprints, inf, devices={"0": 1.0, "1": 1.0})
    for _ in range(9):
        made.asked("often", 0.0)
    moves = made.plan(1.0, View({"rare": 0, "often": 0}, waiting={"new": [1.0]}))
    assert moves == Moves(sleep=("often",), wake=("new",))


SMALL = {f"{name}{device}": on(device, 1.0) for device in "01" for name in "abc"}
BOTH = {**SMALL, "wide": on("01", 1.0)}
ONE_EACH = {"0": 1.0, "1": 1.0}


def test_one_that_needs_both_devices_is_not_starved_by_those_that_need_one() -> None:
    rows = a_row(list(BOTH), 1, 500, 0.5)
    found = simulate(rows, BOTH, Planned(ResidencyPlanner(BOTH, inf, devices=ONE_EACH)))
    waits = [wait for wait, row in zip(found.waits_s, rows, strict=True) if row.expert == "wide"]
    assert len(waits) > 50
    # Of the window of 30 s, and who goes before it: without room kept it waits for minutes.
    assert max(waits) <= 30 + 4 * WAKE_S


@pytest.mark.parametrize("broken", [False, True])
def test_room_is_kept_for_who_waited_a_window_unless_nobody_knows_until_when(broken: bool) -> None:
    made = ResidencyPlanner(BOTH, inf, devices=ONE_EACH, window_s=5.0)
    waiting = {"wide": [0.0], "b1": [9.0]}
    rises = frozenset({"a0"})
    view = View({"a1": 0}, rises, waiting, rises if broken else frozenset())
    expected = Moves(sleep=("a1",), wake=("b1",)) if broken else Moves()
    assert made.plan(10.0, view) == expected


def test_what_adds_up_in_decimals_fits() -> None:
    footprints = {"a": on("0", 0.1), "b": on("0", 0.2)}
    made = ResidencyPlanner(footprints, 0.3, devices={"0": 0.3})
    assert made.plan(0.0, View({"a": 0}, waiting={"b": [0.0]})) == Moves(wake=("b",))


def test_an_expert_that_its_device_does_not_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="expert 'a' takes 2 of device 1, there is 1"):
        ResidencyPlanner({"a": on("1", 2.0)}, inf, devices=ONE_EACH)
