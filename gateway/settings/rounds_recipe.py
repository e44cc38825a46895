"""How a driver of rounds is trained, as a YAML file says it: `config/recipes/*.yaml`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from experts.compose.rounds.grammar import Words
from gateway.settings.base import Frozen
from gateway.settings.document import read_document
from gateway.settings.expert_ids import ExpertId
from gateway.settings.explain import faults_of, refusal
from gateway.settings.faults import FaultyConfigError
from gateway.settings.load import read_text
from routers.rounds.episodes import RoundLimits
from routers.rounds.reward import RewardRule
from routers.rounds.squad import exact_match, token_f1

_OUTCOMES = {"exact_match": exact_match, "token_f1": token_f1}


class WordsSettings(Frozen):
    """The names of the tags."""

    think: str = "think"
    route: str = "search"
    information: str = "information"
    answer: str = "answer"

    def words(self) -> Words:
        return Words(self.think, self.route, self.information, self.answer)


class RecipeLimits(Frozen):
    """Bounds of one conversation, in the driver's tokens."""

    rounds: int = Field(4, ge=1)
    prompt_tokens: int = Field(4096, ge=1)
    turn_tokens: int = Field(1024, ge=1)
    information_tokens: int = Field(600, ge=1)
    reply_tokens: int = Field(512, ge=1)

    def limits(self) -> RoundLimits:
        """With room for every turn and every piece of information."""
        return RoundLimits(self.rounds, self.information_tokens, self.most)

    @property
    def most(self) -> int:
        """Most tokens after a prompt."""
        return (self.rounds + 1) * self.turn_tokens + self.rounds * self.information_tokens


class RewardSettings(Frozen):
    """See `routers.rounds.reward.RewardRule`."""

    alpha: float = Field(0.0, ge=0, le=1)
    outcome: Literal["exact_match", "token_f1"] = "exact_match"
    colons: bool = True
    charge: float = Field(0.0, ge=0, lt=1)


class PooledExpert(Frozen):
    """One expert as the driver is told of it; it is asked at an endpoint that knows its id."""

    id: ExpertId
    usd_per_mtok: float = Field(ge=0)
    description: str = ""
    latency_s: float | None = Field(None, gt=0)
    examples: tuple[str, ...] = ()


class RoundsRecipe(Frozen):
    """One training run.

    `warm` and `grpo` go to `trl.SFTConfig` and `trl.GRPOConfig` as they are; `expected` is for
    people.
    """

    model: str
    words: WordsSettings = WordsSettings()
    limits: RecipeLimits = RecipeLimits()
    reward: RewardSettings = RewardSettings()
    pool: tuple[PooledExpert, ...] = Field(min_length=1)
    warm: dict[str, Any] = Field(default_factory=dict)
    grpo: dict[str, Any] = Field(default_factory=dict)
    expected: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _longest_fits(self) -> Self:
        room, needed = self.grpo.get("vllm_max_model_length"), self.limits.prompt_tokens
        needed += self.limits.most
        if room is not None and room < needed:
            fault = f"is {room}, and conversations of these limits need {needed}"
            raise refusal([(("grpo", "vllm_max_model_length"), fault)])
        return self

    def rule(self) -> RewardRule:
        told = self.reward
        return RewardRule(
            told.alpha, _OUTCOMES[told.outcome], self.words.words(), told.colons, told.charge
        )


def read_recipe(path: Path) -> RoundsRecipe:
    """The recipe in a YAML file.

    Raises:
        ConfigError: It can't be read, or a key of it is wrong.
    """
    document = read_document(read_text(path), str(path))
    try:
        return RoundsRecipe.model_validate(document.data)
    except ValidationError as error:
        raise FaultyConfigError(faults_of(error, document, RoundsRecipe)) from error
