"""Grades a classification: exactly one label is named, and it is the right one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from eval.errors import GraderConfigError
from eval.graders.base import Fields, Grade, right, wrong
from eval.graders.fields import refuse_unknown, text, texts
from eval.graders.wording import fold, mentioned


@dataclass(frozen=True, slots=True)
class LabelCheck:
    """Of all `labels`, the answer names `answer` and no other; a denied label is not named."""

    kind: ClassVar[str] = "label"
    answer: str
    labels: tuple[str, ...]

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        refuse_unknown(fields, {"answer", "labels"})
        answer, labels = text(fields, "answer"), texts(fields, "labels")
        folded = [fold(label) for label in labels]
        if len(set(folded)) != len(folded) or len(folded) < 2:
            raise GraderConfigError("labels", f"must be two or more different labels, got {labels}")
        if fold(answer) not in folded:
            raise GraderConfigError("answer", f"{answer!r} is none of the labels {labels}")
        return cls(labels[folded.index(fold(answer))], labels)

    def grade(self, answer: str) -> Grade:
        named = mentioned(self.labels, answer)
        if not named:
            return wrong("names no label")
        if len(named) > 1:
            return wrong(f"names {len(named)} labels: {', '.join(named)}")
        if named[0] != self.answer:
            return wrong(f"names {named[0]!r}, wanted {self.answer!r}")
        return right(f"names {self.answer!r}")
