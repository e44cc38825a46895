"""The `experts` section: one entry per expert, of one of several kinds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from experts.http.anthropic import VERSION
from gateway.settings.base import Frozen, Secret
from gateway.settings.cards import CalledSettings, PromptSettings
from gateway.settings.children import composed_kind
from gateway.settings.compositions import Composition
from gateway.settings.expert_ids import ExpertId
from gateway.settings.explain import refusal
from gateway.settings.local import AdapterExpert, PackagedExpert, RayExpert, VllmExpert
from gateway.settings.providers import PROVIDERS, preset
from gateway.settings.upstream import url_fault


class UrlExpert(CalledSettings):
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
    tells_load: bool = False
    """Whether its endpoints say at `/metrics` how busy they are, as vLLM and llama.cpp do."""
    allow_link_local: bool = False
    """Let its URL be a link-local address or a cloud's metadata service."""
    model: str = ""
    api_key: Secret | None = Field(None, repr=False)
    connect_s: float = Field(5, gt=0)

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
    space: str = Field("", max_length=200)
    """Of one that embeds: what its vectors can be compared within; its `model` if not said."""
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


class CalculatorSettings(Frozen):
    """Exact arithmetic and unit conversion, without a model."""

    kind: Literal["calculator"]
    id: ExpertId = "calculator"


class EmbedderSettings(Frozen):
    """An embedder that runs in the gateway's own process, on the CPU."""

    kind: Literal["embedder"]
    id: ExpertId
    encoder: Literal["minilm", "static"] = "minilm"
    """A packaged one: all-MiniLM-L6-v2 (extra `torch`), or WordLlama's table (extra `static`)."""
    path: Path | None = None
    """Instead: a folder of sentence-transformers (extra `torch`)."""
    description: str = ""
    quality_prior: float = Field(0.5, ge=0, le=1)
    usd_per_mtok: float = Field(0, ge=0)
    """What a million tokens are booked at."""


def _kind(data: Any) -> str:
    if composed := composed_kind(data):
        return composed
    if not isinstance(data, dict):
        return str(getattr(data, "kind", "openai"))
    provider = PROVIDERS.get(str(data.get("provider")))
    return str(data.get("kind", provider.kind if provider else "openai"))


SingleSettings = (
    RemoteExpert
    | AnthropicSettings
    | PackagedExpert
    | VllmExpert
    | RayExpert
    | AdapterExpert
    | CalculatorSettings
    | EmbedderSettings
)
"""Entries of experts that ask nobody else."""

ExpertSettings = Annotated[
    Annotated[RemoteExpert, Tag("openai")]
    | Annotated[AnthropicSettings, Tag("anthropic")]
    | Annotated[PackagedExpert, Tag("packaged")]
    | Annotated[VllmExpert, Tag("vllm")]
    | Annotated[RayExpert, Tag("ray")]
    | Annotated[AdapterExpert, Tag("adapter")]
    | Annotated[CalculatorSettings, Tag("calculator")]
    | Annotated[EmbedderSettings, Tag("embedder")]
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
