"""Grades by a regular expression that the whole answer must match.

The engine is RE2 (through pyarrow): its time grows with the length of the answer and no faster, so
no pattern can hang a grader. It has no look-around and no back-references.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from eval.errors import GraderConfigError
from eval.graders.base import Fields, Grade, right, wrong
from eval.graders.fields import refuse_unknown, text

_LONGEST = 100_000


@dataclass(frozen=True, slots=True)
class RegexCheck:
    """The answer, stripped of white space at both ends, matches `pattern` from end to end."""

    kind: ClassVar[str] = "regex"
    pattern: str

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        refuse_unknown(fields, {"pattern"})
        check = cls(text(fields, "pattern"))
        try:
            _matches(f"(?:{check.pattern})", "")
            _matches(check.pattern, "")
        except ValueError as error:
            reason = str(error).removeprefix("Invalid regular expression: ")
            raise GraderConfigError("pattern", f"not a valid RE2 pattern: {reason}") from error
        return check

    def grade(self, answer: str) -> Grade:
        stripped = answer.strip()
        if len(stripped) > _LONGEST:
            return wrong(f"longer than {_LONGEST:,} characters, too long to be an answer")
        try:
            matched = _matches(rf"\A(?:{self.pattern})\z", stripped)
        except ValueError as error:
            return Grade(None, f"the pattern could not be run: {error}")
        return right("matches the pattern") if matched else wrong("does not match the pattern")


def found_in(pattern: str, texts: Sequence[str]) -> list[bool]:
    """In which texts a pattern is found anywhere.

    Raises:
        ValueError: No valid RE2 pattern, or a text that is no valid Unicode.
    """
    # A gateway reads patterns of graders only where there are some, and starts faster without.
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pc.match_substring_regex(pa.array(texts, pa.string()), pattern)
    return [bool(each) for each in found.to_pylist()]


def _matches(pattern: str, text: str) -> bool:
    return found_in(pattern, [text])[0]
