"""Grades a whole answer against a list of accepted ones, but for case, punctuation and articles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from eval.errors import GraderConfigError
from eval.graders.base import Fields, Grade, right, wrong
from eval.graders.fields import refuse_unknown, texts
from eval.graders.wording import normal


@dataclass(frozen=True, slots=True)
class ExactCheck:
    """The answer, in its normal form, is one of `answers`."""

    kind: ClassVar[str] = "exact"
    answers: tuple[str, ...]

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        refuse_unknown(fields, {"answers"})
        answers = texts(fields, "answers")
        for answer in answers:
            if not normal(answer):
                raise GraderConfigError("answers", f"{answer!r} is nothing but punctuation")
        return cls(answers)

    def grade(self, answer: str) -> Grade:
        given = normal(answer)
        if any(given == normal(wanted) for wanted in self.answers):
            return right(f"the answer is {given[:80]!r}")
        return wrong(f"the answer is {given[:80]!r}, wanted {self.answers[0]!r}")
