"""Arithmetic in words becomes signs; words that are no arithmetic stay as they are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experts.calculator.arithmetic import calculate
from experts.calculator.spoken_arithmetic import spelled_to_digits, to_signs


@pytest.mark.parametrize(
    ("words", "digits"),
    [
        ("seven", "7"),
        ("twenty-one", "21"),
        ("ninety nine", "99"),
        ("three hundred and five", "305"),
        ("a hundred", "100"),
        ("two thousand", "2000"),
        ("four hundred twelve thousand and sixteen", "412016"),
        ("five and six", "5 and 6"),
        ("seven eight", "7 8"),
        ("someone attended often", "someone attended often"),
    ],
)
def test_numbers_in_words(words: str, digits: str) -> None:
    assert spelled_to_digits(words) == digits


@pytest.mark.parametrize(
    ("question", "result"),
    [
        ("seven times eight", 56),
        ("12 × 7", 84),
        ("12 x 7", 84),
        ("12x7", 84),
        ("84 ÷ 7", 12),
        ("5 − 3", 2),
        ("3² + 4²", 25),
        ("√81", 9),
        ("2 ** 5", 32),
        ("1,204 - 587", 617),
        ("1,000,000 / 1,000", 1000),
        ("sum of 12 and 30", 42),
        ("product of 3 + 4 and 2", 14),
        ("difference between 50 and 8", 42),
        ("quotient of 84 and 2", 42),
        ("subtract 19 from 73", 54),
        ("add 15 to 27", 42),
        ("multiply 6 by 7", 42),
        ("divide 84 by 2", 42),
        ("remainder when 47 is divided by 6", 5),
        ("2 to the power of 10", 1024),
        ("5 raised to the power 3", 125),
        ("5 squared plus 2 cubed", 33),
        ("square root of 144", 12),
        ("15 percent of 80", 12),
        ("15% of 80", 12),
        ("a quarter of 200", 50),
        ("one third of 90", 30),
        ("twice 21", 42),
        ("17 modulo 5", 2),
    ],
)
def test_phrases(question: str, result: int) -> None:
    assert calculate(to_signs(question)) == result


@pytest.mark.parametrize(
    "question",
    [
        "tom has 3 apples and buys 4 more",
        "what percent of 50 is 10",
        "the sum of all numbers from 1 to 10",
        "0x10",
        "if x = 3, what is x + 4",
    ],
)
def test_what_is_not_wholly_arithmetic_does_not_become_an_expression(question: str) -> None:
    assert calculate(to_signs(question)) is None


@given(st.integers(0, 999_999))
def test_every_number_below_a_million_can_be_spelled(number: int) -> None:
    assert spelled_to_digits(spell(number)) == str(number)


def spell(number: int) -> str:
    if number >= 1000:
        rest = f" {spell(number % 1000)}" if number % 1000 else ""
        return f"{spell(number // 1000)} thousand{rest}"
    if number >= 100:
        rest = f" and {spell(number % 100)}" if number % 100 else ""
        return f"{spell(number // 100)} hundred{rest}"
    if number < 20:
        return BELOW_TWENTY[number]
    return TENS[number // 10 - 2] + (f"-{BELOW_TWENTY[number % 10]}" if number % 10 else "")


BELOW_TWENTY = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("ten", "eleven", "twelve", "thirteen", "fourteen"),
    *("fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
