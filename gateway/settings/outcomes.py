"""The `outcomes` and `judges` sections: which answers are scored without anybody being asked."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from eval.errors import GraderConfigError
from eval.graders.checks import parse_check
from gateway.settings.access import MOST_USD, Per
from gateway.settings.base import Frozen
from gateway.settings.explain import refusal

Name = Annotated[str, Field(pattern=r"^[\w.-]+$", max_length=100)]


def _is_check(mapping: dict[str, Any]) -> dict[str, Any]:
    try:
        parse_check(mapping)
    except GraderConfigError as error:
        raise ValueError(str(error)) from error
    return mapping


CheckFields = Annotated[dict[str, Any], AfterValidator(_is_check)]
"""A check as data, e.g. `{"kind": "numeric", "answer": 42}`."""


class GraderSettings(Frozen):
    """A check that answers are graded with, whoever asked."""

    check: CheckFields
    objective: str = Field("quality", min_length=1, max_length=200)
    models: tuple[str, ...] = ()
    """Of requests that named one of these models; none: of all."""
    rate: float = Field(1.0, gt=0, le=1)


class CodeSettings(Frozen):
    """Whether checks may run what a model wrote, and within which limits."""

    enabled: bool = False
    who: Literal["admins", "everybody"] = "admins"
    """Whose requests may ask for it: they bring a program of their own."""
    timeout_s: float = Field(5.0, gt=0, le=60)
    memory_mb: int = Field(256, ge=64)
    isolation: Literal["required", "best_effort"] = "required"
    """Whether nothing is run where the kernel can't keep it from files and network."""


class OutcomeSettings(Frozen):
    """What is scored by the gateway itself; nothing, until it is said."""

    implicit: bool = False
    """Whether asking again, or asking somebody else the same, is booked."""
    implicit_within_s: float = Field(600.0, gt=0)
    graders: tuple[GraderSettings, ...] = ()
    code: CodeSettings = CodeSettings()
    most_waiting: int = Field(1000, ge=1)
    """Answers that wait to be graded, or to be judged; more of them are left unscored."""


Rubric = Annotated[str, Field(min_length=1)]


class JudgeSettings(Frozen):
    """A model that is asked how good answers are."""

    name: Name
    expert: str = "auto"
    """An expert, an alias, `auto` or `auto:<policy>`."""
    how: Literal["rubric", "pair"] = "rubric"
    """`pair`: which is better, what was delivered or what a shadow call gave."""
    rubric: Rubric = "The answer is right, complete and to the point."
    objectives: dict[Name, Rubric] = Field(default_factory=dict)
    """Several rubrics by the objective that each scores; a fitted gate makes one score of them."""
    objective: str | None = Field(None, min_length=1, max_length=200)
    """`quality` if not said, or `preferred` for pairs."""
    rate: float = Field(0.05, ge=0, le=1)
    budget_usd: float = Field(gt=0, le=MOST_USD)
    per: Per = "day"
    when: Literal["all", "router"] = "all"
    """`router`: only what a router decided."""
    max_tokens: int = Field(64, ge=8)
    timeout_s: float = Field(60.0, gt=0)
    most_chars: int = Field(20_000, ge=100)
    """Longer conversations or answers are not judged: a part would be judged as if it were all."""

    @property
    def scores(self) -> str:
        """The objective under which its one score is booked."""
        return self.objective or ("preferred" if self.how == "pair" else "quality")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.objectives and self.how == "pair":
            raise refusal(
                [(("objectives",), "are scored one answer at a time, not with how: pair")]
            )
        if self.scores in self.objectives:
            problem = f"{self.scores!r} is what the gate's score is booked under; rename it"
            raise refusal([(("objectives",), problem)])
        return self
