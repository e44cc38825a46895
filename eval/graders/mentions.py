"""Grades by what an answer mentions: one of the accepted phrases, and none of the rivals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from eval.errors import GraderConfigError
from eval.graders.base import Fields, Grade, right, wrong
from eval.graders.fields import refuse_unknown, texts
from eval.graders.wording import fold, mentioned


@dataclass(frozen=True, slots=True)
class MentionsCheck:
    """One of `answers` is mentioned as whole words, no rival is; a denied mention is none."""

    kind: ClassVar[str] = "mentions"
    answers: tuple[str, ...]
    rivals: tuple[str, ...] = ()

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        refuse_unknown(fields, {"answers", "not"})
        answers = texts(fields, "answers")
        rivals = texts(fields, "not") if fields.get("not") else ()
        for rival in rivals:
            if fold(rival) in map(fold, answers):
                raise GraderConfigError("not", f"{rival!r} is among the answers too")
        return cls(answers, rivals)

    def grade(self, answer: str) -> Grade:
        found = mentioned((*self.answers, *self.rivals), answer)
        rivals = [phrase for phrase in found if phrase in self.rivals]
        if rivals:
            return wrong(f"mentions {rivals[0]!r}, which is wrong")
        if not found:
            return wrong(f"does not mention {self.answers[0]!r}")
        return right(f"mentions {found[0]!r}")
