"""What entries made of others say, whatever those others are."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from experts.cards import Caps
from gateway.settings.base import Frozen
from gateway.settings.children import long_form
from gateway.settings.expert_ids import ExpertId

Unit = Annotated[float, Field(ge=0, le=1)]
Same = Literal["exact", "numeric", "meaning"]
"""When two answers are the same: by their words, by their last number, or by their vectors."""


class CompositionSettings(Frozen):
    """What every composition's entry may say."""

    id: ExpertId = ""
    """Where it is written in place of a child: its parent's id and its number if not said."""
    description: str = ""
    quality_prior: Unit | None = None
    """Guess of its quality until outcomes say more; None: a little above its best child's."""
    cap_usd: float | None = Field(None, gt=0)
    """Most dollars that all calls for one answer may cost."""
    cap_calls: int | None = Field(None, ge=1)
    """Most calls of models for one answer."""
    cap_s: float | None = Field(None, gt=0)
    """Most seconds until the last of them is ended."""

    @model_validator(mode="before")
    @classmethod
    def _written_out(cls, data: Any) -> Any:
        return long_form(data)

    @property
    def caps(self) -> Caps:
        return Caps(self.cap_usd, self.cap_calls, self.cap_s)


class DraftingSettings(CompositionSettings):
    """What compositions say whose children write drafts for another one."""

    temperature: float | None = Field(0.7, ge=0, le=2)
    draft_tokens: int | None = Field(None, ge=1)
    """Longest draft; None: as long as the answer may be."""
    min_successful: int = Field(1, ge=1)
    at_once: int | None = Field(None, ge=1)


class ChooseSettings(Frozen):
    """Who takes part follows from what the router expects of each."""

    margin: Unit = 0.03
    """Only children expected to be within this of the best one's quality."""
    mass: float = Field(0.9, gt=0, le=1)
    """Of those, the fewest whose chances of being the best sum to this."""
