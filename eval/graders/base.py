"""What a check is: a grader's settings as data, and the grade it gives to one answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

Fields = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Grade:
    """What a grader says of one answer.

    Attributes:
        score: In [0, 1]; None when the grader could not run, which is not a wrong answer.
        reason: One short sentence for people.
    """

    score: float | None
    reason: str


class Check(Protocol):
    """One prompt's yardstick. Frozen, so that the same answer always gets the same grade."""

    kind: ClassVar[str]

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        """Build it from a mapping without its `kind`.

        Raises:
            GraderConfigError: A field is missing, unknown or of the wrong type.
        """
        ...

    def grade(self, answer: str) -> Grade:
        """Judge `answer`; a wrong one gets 0, whatever it looks like."""
        ...


def right(reason: str) -> Grade:
    """Full marks, and why."""
    return Grade(1.0, reason)


def wrong(reason: str) -> Grade:
    """No marks, and why."""
    return Grade(0.0, reason)
