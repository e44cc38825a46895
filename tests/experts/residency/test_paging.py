"""Belady's rule is the best there is, and look-ahead lies between it and knowing nothing."""

from __future__ import annotations

from functools import cache
from itertools import permutations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.residency.grouped import grouped_faults
from experts.residency.paging import (
    farthest,
    faults,
    least_recent,
    segment_hits,
    segment_precision,
)

rows = st.lists(st.sampled_from("abcde"), min_size=1, max_size=14)
rooms = st.integers(1, 4)


def fewest(row: tuple[str, ...], room: int) -> int:
    """By trying every choice."""

    @cache
    def least(place: int, awake: frozenset[str]) -> int:
        if place == len(row):
            return 0
        asked = row[place]
        if asked in awake:
            return least(place + 1, awake)
        if len(awake) < room:
            return 1 + least(place + 1, awake | {asked})
        return 1 + min(least(place + 1, awake - {out} | {asked}) for out in awake)

    return least(0, frozenset())


@given(rows, rooms)
def test_knowing_the_future_is_the_optimum(row: list[str], room: int) -> None:
    assert faults(row, room, farthest(row)) == fewest(tuple(row), room)


@given(st.lists(st.sampled_from("abcde"), min_size=1, max_size=6), rooms)
def test_groups_of_any_order_are_served_at_their_best(row: list[str], room: int) -> None:
    assert grouped_faults(row, room, 1) == faults(row, room, farthest(row))
    orders = product(permutations(row[:3]), permutations(row[3:]))
    assert grouped_faults(row, room, 3) == min(fewest(one + two, room) for one, two in orders)


@given(rows, rooms)
def test_nothing_beats_it(row: list[str], room: int) -> None:
    best = faults(row, room, farthest(row))
    for rule in (least_recent(row), farthest(row, 0), farthest(row, 3)):
        assert best <= faults(row, room, rule) <= len(row)
    assert faults(row, 5, least_recent(row)) == len(set(row))


@given(rows, rooms)
def test_to_look_ahead_to_the_end_is_to_know_the_future(row: list[str], room: int) -> None:
    assert faults(row, room, farthest(row, len(row))) == faults(row, room, farthest(row))


def test_the_longest_unasked_goes_first() -> None:
    assert faults("abcab", 2, least_recent("abcab")) == 5
    assert faults("abcab", 2, farthest("abcab")) == 4


def test_without_look_ahead_the_least_asked_goes() -> None:
    row = "aaabca"
    assert faults(row, 2, farthest(row, 0)) == 3
    assert faults(row, 2, least_recent(row)) == 4


def test_room_for_nobody_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        faults("ab", 0, least_recent("ab"))


@given(rows, st.integers(1, 5), rooms)
def test_segments_hit_more_with_more_room(row: list[str], length: int, room: int) -> None:
    hits = segment_hits(row, length, room)
    assert 0 < hits <= segment_hits(row, length, room + 1) <= 1
    assert segment_hits(row, length, 5) == 1
    assert 0 < segment_precision(row, length) <= 1


def test_segments_that_ask_one_expert_are_predicted_whole() -> None:
    assert segment_precision("aaabbb", 3) == 1
    assert segment_hits("aaabbb", 3, 1) == 1
    # Half of each stretch is one expert: keeping both is twice what is asked.
    assert segment_precision("ababab", 2) == pytest.approx(2 / 3)
    assert segment_hits("ababab", 2, 1) == 0.5
