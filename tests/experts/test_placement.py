"""Servers find room whenever there is room for all, and nothing is promised twice."""

from __future__ import annotations

from collections import Counter
from itertools import combinations, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experts.errors import ExpertConfigError
from experts.placement import Demand, Device, Placement, place

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
