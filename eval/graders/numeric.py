"""Grades a number: the last one in the answer must be the wanted one."""

from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import dataclass
from typing import ClassVar, Self

from eval.errors import GraderConfigError
from eval.graders.base import Fields, Grade, right, wrong
from eval.graders.fields import refuse_unknown, required

_DIGITS = r"(?:[0-9]{1,3}(?:[,\u00a0\u2009\u202f'][0-9]{3})+(?![0-9])|[0-9]+)"
_DECIMAL = rf"(?:{_DIGITS}(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]+(?![0-9A-Za-z]))?"
_FRACTION = r"[0-9]{1,30}\s?/\s?[0-9]{1,30}(?![0-9]*/)"
_NUMBER = re.compile(
    r"(?<![A-Za-z0-9_.])"
    r"(?P<sign>(?<![0-9)\]%])[-\u2212\u2013])?(?:[$€£¥]\s?)?"
    rf"(?:(?P<whole>[0-9]{{1,30}})[ \u00a0])?(?<!/)(?P<fraction>{_FRACTION})"
    r"|(?<![A-Za-z0-9_.])"
    r"(?P<sign2>(?<![0-9)\]%])[-\u2212\u2013])?(?:[$€£¥]\s?)?"
    rf"(?P<decimal>{_DECIMAL})"
)
_LATEX_FRACTION = re.compile(r"\\[dt]?frac\s*\{\s*([0-9]+)\s*\}\s*\{\s*([0-9]+)\s*\}")
_LONGEST = 100_000


@dataclass(frozen=True, slots=True)
class NumericCheck:
    """The last number of the answer equals `answer` within `tolerance`.

    Attributes:
        answer: The number wanted.
        tolerance: Largest absolute difference that still counts as right.
    """

    kind: ClassVar[str] = "numeric"
    answer: float
    tolerance: float = 0.0

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        refuse_unknown(fields, {"answer", "tolerance"})
        tolerance = _as_number("tolerance", fields.get("tolerance", 0.0))
        if tolerance < 0:
            raise GraderConfigError("tolerance", f"must be >= 0, got {tolerance!r}")
        return cls(_as_number("answer", required(fields, "answer")), tolerance)

    def grade(self, answer: str) -> Grade:
        found = last_number(answer)
        if found is None:
            return wrong("no number in the answer")
        if abs(found - self.answer) <= self.tolerance or math.isclose(
            found, self.answer, rel_tol=1e-9, abs_tol=1e-12
        ):
            return right(f"last number is {found:g}")
        return wrong(f"last number is {found:g}, wanted {self.answer:g}")


def last_number(text: str) -> float | None:
    """The last number in `text`: separators of thousands, signs, fractions and units understood."""
    last = None
    for match in _NUMBER.finditer(_plain(text[-_LONGEST:])):
        value = _value(match)
        last = value if value is not None else last
    return last


def _plain(text: str) -> str:
    """Digits of any script and ready-made fractions (½) as ASCII; LaTeX fractions as a/b."""
    text = "".join(_plain_character(character) for character in text)
    return _LATEX_FRACTION.sub(r" \1/\2", text)


def _plain_character(character: str) -> str:
    if character.isascii():
        return character
    if unicodedata.decomposition(character).startswith("<fraction>"):
        return " " + unicodedata.normalize("NFKC", character).replace("\u2044", "/")
    return str(unicodedata.decimal(character, character))


def _value(match: re.Match[str]) -> float | None:
    negative = bool(match["sign"] or match["sign2"])
    if match["fraction"]:
        top, bottom = (float(part) for part in match["fraction"].split("/"))
        if bottom == 0:
            return None
        size = float(match["whole"] or 0) + top / bottom
    else:
        size = float(re.sub(r"[,\u00a0\u2009\u202f']", "", match["decimal"]))
    if not math.isfinite(size):
        return None
    return -size if negative else size


def _as_number(name: str, value: object) -> float:
    if isinstance(value, str):
        parsed = last_number(value)
        if parsed is not None and _NUMBER.fullmatch(_plain(value.strip()).strip()):
            return parsed
    elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    raise GraderConfigError(name, f"must be a number, got {value!r}")
