"""What any expert's entry may say of the expert itself."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from experts.cards import ExpertCard, FewShotPrompt, Location, Prices, Privacy
from gateway.settings.base import Frozen
from gateway.settings.expert_ids import ExpertId
from gateway.settings.limits import OwnLimitSettings


class PricesSettings(Frozen):
    """US dollars per million tokens; `request` is dollars per call."""

    input: float = Field(ge=0)
    output: float = Field(ge=0)
    cache_read: float | None = Field(None, ge=0)
    cache_write: float | None = Field(None, ge=0)
    request: float = Field(0, ge=0)

    def prices(self) -> Prices:
        return Prices(
            self.input, self.output, self.cache_read, self.cache_write, self.request, "config"
        )


class PromptSettings(Frozen):
    """The few-shot prompt of a base model."""

    preamble: str = ""
    examples: tuple[tuple[str, str], ...]
    question_prefix: str = "Q: "
    answer_prefix: str = "A:"
    stop: tuple[str, ...] = ("\nQ:", "\n\n")

    def prompt(self) -> FewShotPrompt:
        return FewShotPrompt(
            self.preamble, self.examples, self.question_prefix, self.answer_prefix, self.stop
        )


class CardSettings(Frozen):
    """What any expert's entry may say of it; see `experts.cards.ExpertCard`."""

    id: ExpertId
    description: str = ""
    prices: PricesSettings | None = None
    context_tokens: int | None = Field(None, gt=0)
    max_output_tokens: int | None = Field(None, gt=0)
    modalities: frozenset[Literal["text", "image", "audio", "file"]] | None = None
    """What it reads; None: text, and perhaps more, see `routers.abilities`."""
    tools: bool | None = None
    structured_output: bool | None = None
    prefill: bool = False
    local: bool = False
    location: Location = ""
    """Where it runs; also its tag `location`."""
    rtt_ms: float = Field(0, ge=0)
    """The way there and back: the least that an answer can take."""
    egress_usd_per_gb: float = Field(0, ge=0)
    """What the network takes for requests to it and its answers, beside its own prices."""
    privacy: Privacy = "public"
    """The most confidential class of data that it may be sent."""
    quality_prior: float = Field(0.5, ge=0, le=1)
    params_active_b: float | None = Field(None, gt=0)
    params_total_b: float | None = Field(None, gt=0)
    released: str = ""
    tags: dict[str, str] = Field(default_factory=dict)
    params: Literal["pass", "strict", "drop"] = "pass"
    params_allow: frozenset[str] = frozenset()
    media_urls: Literal["any", "public", "data"] = "public"
    """Which URLs of images, sounds and files it may be sent, since it fetches them itself."""

    def card(self, prices: Prices | None, prompt: FewShotPrompt | None = None) -> ExpertCard:
        others = {"id", "prices", "tags", "rtt_ms", "egress_usd_per_gb"}
        names = set(CardSettings.model_fields) - others
        fields: dict[str, Any] = {name: getattr(self, name) for name in names}
        at = {"location": self.location} if self.location else {}
        return ExpertCard(
            expert_id=self.id,
            prices=prices,
            prompt=prompt,
            tags={**at, **self.tags},
            rtt_s=self.rtt_ms / 1000,
            **fields,
        )


class CalledSettings(CardSettings):
    """What the entry of any expert that is called over HTTP may say, of our own servers too."""

    catalogue: str | None = None
    """`provider/model` to look prices up by when none are given, e.g. `openai/gpt-4o-mini`."""
    limits: OwnLimitSettings = OwnLimitSettings()
    """In place of those of the section `limits`."""
    hedge_after_s: float | None = Field(None, gt=0)
    """In place of `execution.hedge_after_s`."""
    max_concurrency: int | None = Field(None, ge=1)
    """Calls it gets at once; further ones wait, see `execution.queue`. None: no limit."""
