"""Servers find room whenever there is room for all, and nothing is promised twice."""

from __future__ import annotations

from collections import Counter
from itertools import combinations, product
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experts.engines.placement import Demand, Device, Placement, Turns, place, room_beside
from experts.errors import ExpertConfigError

sizes = st.integers(1, 12).map(lambda eighths: eighths * 4.0)
inventories = st.lists(st.sampled_from([24.0, 48.0, 80.0]), min_size=1, max_size=4).map(
    lambda row: [Device(str(number), memory) for number, memory in enumerate(row)]
)
wishes = st.lists(st.tuples(sizes, st.integers(1, 2)), min_size=1, max_size=5).map(
    lambda row: [Demand(f"e{n}", gb * count, count) for n, (gb, count) in enumerate(row)]
)


def fits(demands: list[Demand], devices: list[Device]) -> bool:
    """Whether any choice of devices holds all, by trying every one."""
    choices = [
        [
            seats
            for seats in combinations(devices, demand.devices)
            if len({one.memory_gb for one in seats}) == 1
        ]
        for demand in demands
    ]
    return any(
        not over(dict(zip([demand.name for demand in demands], chosen, strict=True)), demands)
        for chosen in product(*choices)
    )


def over(placement: Placement, demands: list[Demand]) -> list[str]:
    """Devices that hold more than they have."""
    used: Counter[Device] = Counter()
    for demand in demands:
        for device in placement[demand.name]:
            used[device] += demand.each_gb  # type: ignore[assignment]
    return [one.device_id for one, gb in used.items() if gb > one.memory_gb + 1e-6]


@settings(deadline=None, max_examples=150)
@given(wishes, inventories)
def test_a_place_is_found_exactly_when_there_is_one(
    demands: list[Demand], devices: list[Device]
) -> None:
    try:
        found = place(demands, devices)
    except ExpertConfigError:
        assert not fits(demands, devices)
        return
    assert over(found, demands) == []
    for demand in demands:
        assert len(set(found[demand.name])) == demand.devices
        assert len({one.memory_gb for one in found[demand.name]}) == 1


def places_for(demand: Demand, room: dict[Device, float]) -> set[Device]:
    """Devices of all choices that hold it."""
    return {
        one
        for seats in combinations(room, demand.devices)
        if len({one.memory_gb for one in seats}) == 1
        and all(room[one] >= demand.each_gb - 1e-6 for one in seats)
        for one in seats
    }


@settings(deadline=None, max_examples=100)
@given(wishes, inventories, st.integers(1, 5), st.sampled_from([inf, 40.0, 120.0]))
def test_those_that_take_turns_find_room_exactly_when_there_is_some(
    wished: list[Demand], devices: list[Device], count: int, total: float
) -> None:
    turns, always = Turns(wished[:count], total), wished[count:]

    def find(room: dict[Device, float]) -> bool:
        places = [places_for(demand, room) for demand in turns.demands]
        held = sum(room[one] for one in set().union(*places))
        return all(places) and (total == inf or held >= total - 1e-6)

    try:
        found = place(always, devices, turns=turns)
    except ExpertConfigError:
        every = product(*([*combinations(devices, demand.devices)] for demand in always))
        names = [demand.name for demand in always]
        for chosen in (dict(zip(names, seats, strict=True)) for seats in every):
            alike = all(len({one.memory_gb for one in seats}) == 1 for seats in chosen.values())
            fit = alike and not over(chosen, always)
            assert not (fit and find(room_beside(always, devices, chosen)))
        return
    room = room_beside(always, devices, found)
    assert over(found, always) == []
    assert find(room)
    for name, seats in turns.spread(room).items():
        demand = next(each for each in turns.demands if each.name == name)
        assert len(set(seats)) == demand.devices
        assert len({one.memory_gb for one in seats}) == 1
        assert over({**found, name: seats}, [*always, demand]) == []


def test_those_that_take_turns_are_spread() -> None:
    devices = [Device(str(number), 80) for number in range(3)]
    turns = Turns([Demand("wide", 120, 2), *(Demand(name, 40) for name in "abcd")])
    found = turns.spread(dict.fromkeys(devices, 80.0))
    shared = Counter(one.device_id for seats in found.values() for one in seats)
    assert shared == {"0": 2, "1": 2, "2": 2}


def test_first_fit_would_fail_where_the_search_does_not() -> None:
    demands = [Demand(name, gb) for name, gb in zip("abcde", (30, 26, 26, 20, 18), strict=True)]
    found = place(demands, [Device("0", 70), Device("1", 50)])
    assert over(found, demands) == []


def test_many_alike_are_placed_at_once() -> None:
    devices = [Device(str(number), 80) for number in range(16)]
    demands = [Demand(f"e{number}", 80, 2) for number in range(16)]
    found = place(demands, devices)
    assert over(found, demands) == []


@pytest.mark.parametrize(
    ("demands", "said"),
    [
        ([Demand("big", 90)], "big takes 90 GB; there is device 0 of 48 GB, device 1 of 24 GB"),
        ([Demand("wide", 40, 2)], "wide takes 20 GB of each of 2 devices of one size; there is"),
        (
            [Demand("a", 40), Demand("b", 20), Demand("c", 9)],
            "a, b, c do not fit together on .*: c takes 9 GB, and finds no room",
        ),
    ],
)
def test_what_does_not_fit_is_named(demands: list[Demand], said: str) -> None:
    with pytest.raises(ExpertConfigError, match=said):
        place(demands, [Device("0", 48), Device("1", 24)])
