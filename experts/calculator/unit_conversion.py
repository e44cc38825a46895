"""Answers questions such as "How many centimetres are in 3.5 metres?" with exact factors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from experts.calculator.arithmetic import LONGEST, show
from experts.errors import ExpertConfigError

INSTALL_HINT = "pip install 'pointsman[local]'"

_NUMBER = r"(?P<number>-?[0-9]{1,3}(?:,[0-9]{3})+|-?[0-9]*\.?[0-9]+|an?)"
_FROM = r"(?P<source>[a-z°][a-z°/ ]*?)"
_TO = r"(?P<target>[a-z°][a-z°/ ]*?)"
_QUESTIONS = tuple(
    re.compile(pattern)
    for pattern in (
        rf"how many {_TO} (?:are |is )?(?:there |contained )?in {_NUMBER} ?{_FROM}",
        rf"how many {_TO} (?:are|is|does|do|make|equal) {_NUMBER} ?{_FROM}"
        r"(?: equal| make| have| contain| last)?",
        rf"(?:convert|change|express|turn) {_NUMBER} ?{_FROM} (?:in|to|into|as) {_TO}",
        rf"(?:(?:what|how (?:much|long|far|heavy|fast|hot)) (?:is|are) )?{_NUMBER} ?{_FROM} "
        rf"(?:converted |expressed )?(?:in|into|to|as) {_TO}",
    )
)

# Years and months have no fixed number of days, so they are a kind of their own.
_DEFINITIONS = (
    "calendar_month = [calendar]",
    "calendar_year = 12 * calendar_month",
    "calendar_decade = 10 * calendar_year",
    "calendar_century = 100 * calendar_year",
    "international_acre = 4840 * yard ** 2",
)
_ALIASES: Mapping[str, str] = {
    "mm": "millimeter", "cm": "centimeter", "m": "meter", "km": "kilometer", "in": "inch",
    "ft": "foot", "yd": "yard", "mi": "mile", "nautical mile": "nautical_mile",
    "nautical miles": "nautical_mile", "mg": "milligram", "g": "gram", "kg": "kilogram",
    "oz": "ounce", "lb": "pound", "lbs": "pound", "t": "tonne", "ton": "ton",
    "ml": "milliliter", "cl": "centiliter", "dl": "deciliter", "l": "liter", "cup": "cup",
    "tsp": "teaspoon", "tbsp": "tablespoon", "s": "second", "sec": "second", "min": "minute",
    "h": "hour", "hr": "hour", "hrs": "hour", "ms": "millisecond", "day": "day",
    "month": "calendar_month", "months": "calendar_month", "year": "calendar_year",
    "years": "calendar_year", "decade": "calendar_decade", "decades": "calendar_decade",
    "century": "calendar_century", "centuries": "calendar_century",
    "bit": "bit", "kb": "kilobyte", "mb": "megabyte", "gb": "gigabyte", "tb": "terabyte",
    "acre": "international_acre", "acres": "international_acre", "mph": "mile / hour",
    "kph": "kilometer / hour", "°c": "celsius", "°f": "fahrenheit", "c": "celsius",
    "f": "fahrenheit", "k": "kelvin", "degree celsius": "celsius", "degrees celsius": "celsius",
    "degree fahrenheit": "fahrenheit", "degrees fahrenheit": "fahrenheit",
}  # fmt: skip
_POWERS = {"square": 2, "cubic": 3}


class UnitConverter:
    """Reads and answers conversion questions.

    Raises:
        ExpertConfigError: The library that knows the units is not installed.
    """

    def __init__(self) -> None:
        try:
            import pint
        except ImportError:
            raise ExpertConfigError(
                f"the calculator needs the package 'pint'; run: {INSTALL_HINT}"
            ) from None
        self._registry: Any = pint.UnitRegistry(non_int_type=Fraction)
        for definition in _DEFINITIONS:
            self._registry.define(definition)
        self._no_such_unit = (pint.UndefinedUnitError, pint.OffsetUnitCalculusError)
        # TypeError: decibels are logarithms, which a fraction has none of.
        self._not_convertible = (
            pint.DimensionalityError,
            pint.OffsetUnitCalculusError,
            TypeError,
        )

    def answer(self, question: str) -> str | None:
        """The converted amount with its unit, e.g. "350 centimetres".

        Args:
            question: One question in lower case, without its question mark.

        Returns:
            None if it is no conversion question, or one between units that don't fit.
        """
        if len(question) > LONGEST:
            return None
        for pattern in _QUESTIONS:
            match = pattern.fullmatch(question)
            value = match and self._convert(match["number"], match["source"], match["target"])
            if match and value is not None:
                return f"{show(value)} {match['target']}"
        return None

    def _convert(self, number: str, source: str, target: str) -> Fraction | None:
        amount = Fraction(1) if number.startswith("a") else Fraction(number.replace(",", ""))
        from_unit, to_unit = self._unit(source), self._unit(target)
        if from_unit is None or to_unit is None:
            return None
        try:
            converted = self._registry.Quantity(amount, from_unit).to(to_unit)
        except self._not_convertible:
            return None
        return Fraction(converted.magnitude)

    def _unit(self, words: str) -> Any | None:
        above, per, below = words.replace(" per ", "/").partition("/")
        unit = self._simple_unit(above)
        if unit is None or not per:
            return unit
        divisor = self._simple_unit(below)
        return None if divisor is None else unit / divisor

    def _simple_unit(self, words: str) -> Any | None:
        words = words.strip()
        power, _, base = words.partition(" ")
        if power in _POWERS:
            unit = self._simple_unit(base)
            return None if unit is None else unit ** _POWERS[power]
        # A short word that we don't know is rarely the unit that the library takes it for.
        if words not in _ALIASES and not re.fullmatch(r"[a-z]{4,}", words):
            return None
        try:
            return self._registry.parse_units(_ALIASES.get(words, words))
        except self._no_such_unit:
            return None
