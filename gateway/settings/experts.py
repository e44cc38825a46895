"""The `experts` section: one entry per expert, of one of several kinds."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from experts.anthropic import VERSION
from experts.cards import ExpertCard, FewShotPrompt, Location, Prices, Privacy
from gateway.settings.base import Frozen, Secret
from gateway.settings.children import composed_kind
from gateway.settings.compositions import Composition
from gateway.settings.expert_ids import ExpertId
from gateway.settings.explain import refusal
from gateway.settings.providers import PROVIDERS, preset
from gateway.settings.upstream import url_fault


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
    modalities: frozenset[Literal["text", "image", "audio", "file"]] = frozenset({"text"})
    tools: bool = False
    structured_output: bool = False
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


class UrlExpert(CardSettings):
    """A model behind a URL, whatever wire format it speaks."""

    provider: str | None = None
    """A well-known one, which says URL, key, prices and abilities where this entry does not."""
    region: str | None = None
    """Where it is hosted, if that is a part of the provider's URL (Bedrock)."""
    resource: str | None = None
    """Whose it is, if that is a part of the provider's URL (Azure)."""
    base_url: str = ""
    base_urls: tuple[str, ...] = ()
    """Instead of `base_url`: several endpoints that serve the same model."""
    allow_link_local: bool = False
    """Let its URL be a link-local address or a cloud's metadata service."""
    model: str = ""
    api_key: Secret | None = Field(None, repr=False)
    catalogue: str | None = None
    """`provider/model` to look prices up by when none are given, e.g. `openai/gpt-4o-mini`."""
    connect_s: float = Field(5, gt=0)
    hedge_after_s: float | None = Field(None, gt=0)
    """In place of `execution.hedge_after_s`."""
    max_concurrency: int | None = Field(None, ge=1)
    """Calls it gets at once; further ones wait, see `execution.queue`. None: no limit."""

    @model_validator(mode="before")
    @classmethod
    def _as_its_provider_has_it(cls, data: Any) -> Any:
        return preset(data) if isinstance(data, dict) else data

    @model_validator(mode="after")
    def _calls_what_it_may(self) -> Self:
        if bool(self.base_url) == bool(self.base_urls):
            raise refusal([(("base_url",), "needs either `base_url` or `base_urls`")])
        for index, url in enumerate(self.urls):
            if fault := url_fault(url, allow_link_local=self.allow_link_local):
                raise refusal([(("base_url",) if self.base_url else ("base_urls", index), fault)])
        return self

    @property
    def urls(self) -> tuple[str, ...]:
        """Where it answers: one URL or several."""
        return self.base_urls or (self.base_url,)


class RemoteExpert(UrlExpert):
    """Any OpenAI-compatible URL: a provider, a vLLM server, another gateway."""

    kind: Literal["openai"] = "openai"
    api: Literal["chat", "completions", "embeddings"] = "chat"
    """What is behind the URL: a model that chats, that continues prompts, or that embeds."""
    prompt: PromptSettings | None = None
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] | None = None
    """What it calls the longest answer; what the client called it if not said."""


class AnthropicSettings(UrlExpert):
    """Any URL that speaks Anthropic's messages API."""

    kind: Literal["anthropic"]
    params: Literal["pass", "strict", "drop"] = "drop"
    version: str = VERSION
    betas: tuple[str, ...] = ()
    thinking: Literal["adaptive", "budget"] = "adaptive"
    """How an effort is said: `budget` is for models before `adaptive`."""
    json_by: Literal["format", "tool"] = "format"
    """How an answer is bound to a schema: `tool` is for servers without `output_config.format`."""

    @model_validator(mode="before")
    @classmethod
    def _at_anthropic(cls, data: Any) -> Any:
        # A provider's own URL brings its key along, this one does not.
        named = ("base_url", "base_urls", "provider")
        if isinstance(data, dict) and any(data.get(name) for name in named):
            return data
        return {**data, "base_url": PROVIDERS["anthropic"].base_url}


class PackagedExpert(Frozen):
    """A small model that comes as a Python package, served on this machine's CPU."""

    kind: Literal["packaged"]
    package: str
    id: ExpertId = ""
    usd_per_hour: float = Field(0.05, gt=0)
    threads: int = Field(1, ge=1)
    slots: int = Field(2, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _named_after_its_package(cls, data: Any) -> Any:
        if isinstance(data, dict) and not data.get("id"):
            return {**data, "id": data.get("package", "")}
        return data


class CalculatorSettings(Frozen):
    """Exact arithmetic and unit conversion, without a model."""

    kind: Literal["calculator"]
    id: ExpertId = "calculator"


def _kind(data: Any) -> str:
    if composed := composed_kind(data):
        return composed
    if not isinstance(data, dict):
        return str(getattr(data, "kind", "openai"))
    provider = PROVIDERS.get(str(data.get("provider")))
    return str(data.get("kind", provider.kind if provider else "openai"))


SingleSettings = RemoteExpert | AnthropicSettings | PackagedExpert | CalculatorSettings
"""Entries of experts that ask nobody else."""

ExpertSettings = Annotated[
    Annotated[RemoteExpert, Tag("openai")]
    | Annotated[AnthropicSettings, Tag("anthropic")]
    | Annotated[PackagedExpert, Tag("packaged")]
    | Annotated[CalculatorSettings, Tag("calculator")]
    | Composition,
    Discriminator(_kind),
]


def local_pool() -> tuple[ExpertSettings, ...]:
    """Experts that run on this machine, for when the configuration names none."""
    return (
        PackagedExpert(kind="packaged", package="smollm2-135m-instruct", id="smollm2"),
        PackagedExpert(kind="packaged", package="gemma-3-270m", id="gemma"),
        CalculatorSettings(kind="calculator"),
    )
