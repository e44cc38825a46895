"""Advice from a row of requests."""

from __future__ import annotations

import pytest

from eval.errors import ComparisonError
from eval.fleet.residency import advice


def test_experts_asked_in_long_stretches_need_little_room() -> None:
    row = ["a"] * 200 + ["b"] * 200 + ["c"] * 100
    found = advice(row, stretch=100)
    assert found.keep == ("a",)
    assert found.precision == 1.0
    assert found.rooms[0].look_ahead == found.rooms[0].best == pytest.approx(1 - 3 / 500)
    assert found.rooms[0].most_asked == pytest.approx(0.4)


def test_experts_asked_in_turn_need_room_each() -> None:
    found = advice(["a", "b", "c", "d"] * 100)
    assert found.keep == ("a", "b", "c", "d")
    assert found.rooms[2].least_recent == 0
    assert found.rooms[2].best > 0.6
    assert found.rooms[3].least_recent == pytest.approx(0.99)
    assert found.asked == dict.fromkeys("abcd", 0.25)


def test_one_expert_is_no_question() -> None:
    with pytest.raises(ComparisonError, match="here that were a"):
        advice(["a", "a"])
