"""What is made for every request behaves as the frozen dataclass that it stands for."""

from dataclasses import field, replace

import pytest

from experts.record import record


@record()
class Point:
    x: int
    y: int = 0
    note: str = field(default="", compare=False)


@record(eq=False)
class Thing:
    x: int


def test_records_of_equal_fields_are_equal_and_found_as_keys() -> None:
    assert Point(1, 2, "a") == Point(1, 2, "b") != Point(1, 3)
    assert {Point(1, 2): "found"}[Point(1, 2, "b")] == "found"
    assert replace(Point(1, 2), y=3) == Point(1, 3)


def test_records_that_are_things_equal_only_themselves() -> None:
    one = Thing(1)
    assert one == one != Thing(1)
    assert len({one, Thing(1)}) == 2


def test_a_record_has_no_room_for_more() -> None:
    with pytest.raises(AttributeError):
        setattr(Point(1), "z", 2)  # noqa: B010 - mypy would see it otherwise
