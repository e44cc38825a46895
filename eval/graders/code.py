"""Grades a program by running it against tests, in a sandbox, if there is one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Self

from eval.graders.base import Fields, Grade, right, wrong
from eval.graders.fields import refuse_unknown, text
from eval.graders.sandbox import Sandbox, SandboxError

_BLOCK = re.compile(r"^```(?:python|py)?[ \t]*\n(.*?)^```[ \t]*$", re.DOTALL | re.MULTILINE)
_LONGEST = 100_000


@dataclass(frozen=True, slots=True)
class CodeCheck:
    """The answer's last block of Python, then `tests`, runs to its end.

    It runs code that a model wrote. Without a sandbox nothing is run and there is no grade.

    Attributes:
        tests: Python that raises where the answer is wrong; it sees all names of the answer.
        sandbox: Where it may run; whoever configures the process says so, never the data.
    """

    kind: ClassVar[str] = "code"
    tests: str
    sandbox: Sandbox | None = None

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        refuse_unknown(fields, {"tests"})
        return cls(text(fields, "tests"))

    def grade(self, answer: str) -> Grade:
        if self.sandbox is None:
            return Grade(None, "running code is off")
        blocks = _BLOCK.findall(answer)
        program = blocks[-1] if blocks else answer
        if len(program) > _LONGEST:
            return wrong(f"longer than {_LONGEST:,} characters, too long to be run")
        try:
            failure = self.sandbox.run(program, self.tests)
        except SandboxError as error:
            return Grade(None, str(error))
        return right("the tests pass") if failure is None else wrong(failure)
