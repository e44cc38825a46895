"""When a draft is good enough: the rules of cascades and their like."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from gateway.settings.base import Frozen
from gateway.settings.explain import refusal
from gateway.settings.outcomes import CheckFields

if TYPE_CHECKING:
    from gateway.settings.compositions import Child

Unit = Annotated[float, Field(ge=0, le=1)]
Same = Literal["exact", "numeric", "meaning"]
"""When two answers are the same: by their words, by their last number, or by their vectors."""


class DeferSettings(Frozen):
    """When a draft is the answer; see docs/compositions.md."""

    by: Literal[
        "logprob",
        "margin",
        "entropy",
        "dispersion",
        "agreement",
        "self_check",
        "arithmetic",
        "schema",
        "check",
        "scorer",
    ] = "logprob"
    """What a draft is judged by."""
    accept_at: Unit = 0.8
    """A draft of that score, in [0, 1], is accepted."""
    hopeless_below: Unit = 0
    """A draft of less is given too, for nobody would do better."""
    actions: tuple[Literal["accept", "defer", "hopeless"], ...] = ()
    """In place of the thresholds: one for each of so many equal parts of [0, 1], lowest first."""
    power: float = Field(1, gt=0)
    samples: int | None = Field(None, ge=1, le=64)
    """Answers of each (`agreement`, 3 if not said), or verdicts (`self_check`, 8)."""
    among: tuple[Child, ...] = ()
    """Who answers beside whoever drafted, for `agreement`."""
    same: Same = "exact"
    temperature: float | None = Field(None, ge=0, le=2)
    verifier: Child | None = None
    """Who checks; whoever drafted if not said."""
    check: CheckFields | None = None
    scorer: Path | None = None
    """What `pointsman compose fit` wrote, for `by: scorer`."""
    chance: bool = False
    """Accept with the score as probability, whatever the thresholds; the propensity is logged."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.hopeless_below > self.accept_at:
            raise refusal([(("hopeless_below",), "must be ≤ accept_at")])
        if (self.by == "check") != (self.check is not None):
            raise refusal([(("check",), "goes with `by: check`")])
        if (self.by == "scorer") != (self.scorer is not None):
            raise refusal([(("scorer",), "goes with `by: scorer`, which needs it")])
        if self.among and self.by != "agreement":
            raise refusal([(("among",), "goes with `by: agreement`")])
        if self.by == "agreement" and self.samples == 1 and not self.among:
            raise refusal([(("samples",), "must be ≥ 2: one answer agrees with itself")])
        return self
