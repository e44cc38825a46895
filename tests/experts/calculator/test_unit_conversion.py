"""Conversions are exact where they are certain, and left alone where they are not."""

from __future__ import annotations

import sys
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experts.calculator.arithmetic import LONGEST
from experts.calculator.unit_conversion import UnitConverter
from experts.errors import ExpertConfigError


@pytest.fixture(scope="module")
def converter() -> UnitConverter:
    try:
        return UnitConverter()
    except ExpertConfigError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("how many centimetres are in 3.5 metres", "350 centimetres"),
        ("how many centimeters are there in a meter", "100 centimeters"),
        ("how many minutes is 2.5 hours", "150 minutes"),
        ("how many feet does 2 yards make", "6 feet"),
        ("how many bits are in 4 bytes", "32 bits"),
        ("convert 5 miles to kilometres", "8.04672 kilometres"),
        ("convert 1,500 grams into kilograms", "1.5 kilograms"),
        ("change 2.5kg to g", "2500 g"),
        ("express 90 kilometres per hour in metres per second", "25 metres per second"),
        ("what is 90 km/h in m/s", "25 m/s"),
        ("what is 7 feet in inches", "84 inches"),
        ("how long is 3 hours in minutes", "180 minutes"),
        ("180 minutes in hours", "3 hours"),
        ("convert 100 degrees celsius to fahrenheit", "212 fahrenheit"),
        ("convert -40 °c to °f", "-40 °f"),
        ("how many square centimetres are in a square metre", "10000 square centimetres"),
        ("how many litres are in 2 cubic metres", "2000 litres"),
        ("how many square feet in an acre", "43560 square feet"),
        ("how many months are there in 2.5 years", "30 months"),
        ("convert 2 decades to years", "20 years"),
        ("how many megabytes are in 2 gb", "2000 megabytes"),
        ("convert 3 kg to pounds", "about 6.61386786555 pounds"),
    ],
)
def test_conversions(converter: UnitConverter, question: str, answer: str) -> None:
    assert converter.answer(question) == answer


@pytest.mark.parametrize(
    "question",
    [
        "how many days are in a year",
        "convert 3 months to weeks",
        "how many eggs are in 2 boxes",
        "how many legs are on 3 dogs",
        "how many dollars are in 3 euros",
        "convert 3 kilograms to metres",
        "how many grams are in 2 kilograms of flour",
        "convert 5 feet 3 inches to centimetres",
        "convert 5 mb to zz",
        "convert 5 watts to decibelwatts",
        "convert 5 decibelmilliwatts to watts",
        "convert 5 millicelsius to kelvin",
        "how many a are in 3 s",
        "convert 5 to metres",
        "convert 3 square square metres to metres",
        "convert 3 metres per second per second to metres per second",
        "what is the capital of peru",
        "",
    ],
)
def test_what_is_uncertain_is_left_alone(converter: UnitConverter, question: str) -> None:
    assert converter.answer(question) is None


def test_long_questions_are_not_read(converter: UnitConverter) -> None:
    assert converter.answer(f"convert {'1' * LONGEST} metres to feet") is None
    assert converter.answer(f"convert {'1' * 20} metres to feet") is not None


@given(
    number=st.decimals(0, 10**6, places=3),
    units=st.permutations(["millimetres", "inches", "miles", "yards", "kilometres"]),
)
def test_there_and_back_is_where_we_were(
    converter: UnitConverter, number: object, units: list[str]
) -> None:
    there = converter.answer(f"convert {number} {units[0]} to {units[1]}")
    assert there is not None
    amount = there.removeprefix("about ").split(" ≈ ")[-1].split()[0]
    back = converter.answer(f"convert {amount} {units[1]} to {units[0]}")
    assert back is not None
    found = Fraction(back.removeprefix("about ").split(" ≈ ")[-1].split()[0])
    assert abs(found - Fraction(str(number))) <= Fraction(str(number)) / 10**10


@given(st.text(alphabet="0123456789.,-/° abcdefghiklmnoprstuy", max_size=60))
def test_no_text_raises(converter: UnitConverter, text: str) -> None:
    for question in (text, f"convert 3 {text} to metres", f"how many {text} are in {text} days"):
        assert converter.answer(question) is None or isinstance(converter.answer(question), str)


def test_without_the_unit_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pint", None)
    with pytest.raises(ExpertConfigError, match=r"'pint'; run: pip install 'pointsman\[local\]'"):
        UnitConverter()
