from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.errors import GraderConfigError
from eval.graders.checks import grade, parse_check
from eval.graders.numeric import last_number


@pytest.mark.parametrize(
    ("wanted", "answer"),
    [
        (42, "The answer is 42."),
        (42, "First 40, then two more: 42"),
        (-5, "x = -5"),
        (-5, "x = \u22125"),
        (-5, "That leaves -$5"),
        (1234567, "1,234,567 people"),
        (1234.5, "$1,234.50 in total"),
        (1234, "1\u202f234 francs"),
        (0.75, "3/4 of a cup"),
        (0.75, "\\boxed{\\frac{3}{4}}"),
        (1.5, "1 1/2 cups"),
        (1.5, "1½ cups"),
        (0.5, ".5"),
        (12, "12 km/h"),
        (12, "12%"),
        (7, "the 7th"),
        (1_000_000, "1e6"),
        (0.0025, "2.5e-3 m"),
        (10, "between 5-10"),
        (5, "- 5"),
        (42, "٤٢"),
        (2024, "on 3/4/2024"),
        ("3/4", "0.75"),
        (5, "5 m²"),
    ],
)
def test_the_last_number_is_right(wanted: float | str, answer: str) -> None:
    assert grade(parse_check({"kind": "numeric", "answer": wanted}), answer).score == 1


@pytest.mark.parametrize(
    ("wanted", "answer"),
    [
        (12, "312"),
        (12, "It is 12.5"),
        (5, "-5"),
        (-5, "5"),
        (-5, "10-5"),
        (42, "42, or maybe 43"),
        (2, "H2O"),
        (1, "no number at all"),
        (1, ""),
        (1000, "1,0000"),
        (3, "3/0 and 1/0"),
        (2, "v2.3.4"),
        (0.3333, "1/3"),
    ],
)
def test_the_last_number_is_wrong(wanted: float, answer: str) -> None:
    found = grade(parse_check({"kind": "numeric", "answer": wanted}), answer)
    assert found.score == 0
    assert found.reason


def test_tolerance_is_an_absolute_difference() -> None:
    check = parse_check({"kind": "numeric", "answer": 3.14, "tolerance": 0.01})
    assert grade(check, "3.149").score == 1
    assert grade(check, "3.16").score == 0


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "answer"),
        ({"answer": "many"}, "answer"),
        ({"answer": "12 or 13"}, "answer"),
        ({"answer": True}, "answer"),
        ({"answer": float("nan")}, "answer"),
        ({"answer": 1, "tolerance": -1}, "tolerance"),
        ({"answer": 1, "tolerence": 1}, "tolerence"),
    ],
)
def test_a_malformed_check_names_the_field(fields: dict[str, object], field: str) -> None:
    with pytest.raises(GraderConfigError, match=f"check field '{field}'"):
        parse_check({"kind": "numeric", **fields})


@given(st.integers(-(10**12), 10**12))
def test_any_integer_is_read_back_with_and_without_separators(number: int) -> None:
    assert last_number(f"so it is {number}.") == number
    assert last_number(f"so it is {number:,}, I think") == number


@given(st.text(max_size=300))
def test_no_text_makes_it_fail(text: str) -> None:
    value = last_number(text)
    assert value is None or value == value


@pytest.mark.parametrize("text", ["1" * 50_000, "1/" * 50_000, "1,111" * 10_000, "-" * 50_000])
def test_hostile_answers_are_read_in_no_time(text: str) -> None:
    started = time.process_time()
    last_number(text)
    assert time.process_time() - started < 2
