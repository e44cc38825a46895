"""Typed settings: one YAML file, frozen, every key checked, defaults in the classes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from experts.cards import ExpertCard, FewShotPrompt, Prices
from gateway.errors import ConfigError
from routers.records import Preference


class Frozen(BaseModel):
    """Immutable, and a misspelt key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def secret(value: str) -> str:
    """`env:NAME` (or LiteLLM's `os.environ/NAME`) to the variable's value; else the value itself.

    Raises:
        ConfigError: The variable is not set.
    """
    for prefix in ("env:", "os.environ/"):
        if value.startswith(prefix):
            name = value.removeprefix(prefix)
            if name not in os.environ:
                raise ConfigError(f"the environment variable {name!r} is not set")
            return os.environ[name]
    return value


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

    id: str = Field(min_length=1, pattern=r"^[A-Za-z0-9][\w.:/@+-]*$")
    description: str = ""
    prices: PricesSettings | None = None
    context_tokens: int | None = Field(None, gt=0)
    max_output_tokens: int | None = Field(None, gt=0)
    modalities: frozenset[Literal["text", "image", "audio", "file"]] = frozenset({"text"})
    tools: bool = False
    structured_output: bool = False
    local: bool = False
    quality_prior: float = Field(0.5, ge=0, le=1)
    params_active_b: float | None = Field(None, gt=0)
    params_total_b: float | None = Field(None, gt=0)
    released: str = ""
    tags: dict[str, str] = Field(default_factory=dict)

    def card(self, prices: Prices | None, prompt: FewShotPrompt | None = None) -> ExpertCard:
        names = set(CardSettings.model_fields) - {"id", "prices"}
        fields: dict[str, Any] = {name: getattr(self, name) for name in names}
        return ExpertCard(expert_id=self.id, prices=prices, prompt=prompt, **fields)


class RemoteExpert(CardSettings):
    """Any OpenAI-compatible URL: a provider, a vLLM server, another gateway."""

    kind: Literal["openai"] = "openai"
    base_url: str = Field(pattern=r"^https?://")
    model: str = ""
    api_key: str | None = None
    catalogue: str | None = None
    """`provider/model` to look prices up by when none are given, e.g. `openai/gpt-4o-mini`."""
    prompt: PromptSettings | None = None
    connect_s: float = Field(5, gt=0)


class PackagedExpert(Frozen):
    """A small model that comes as a Python package, served on this machine's CPU."""

    kind: Literal["packaged"]
    package: str
    id: str = ""
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
    id: str = "calculator"


def _kind(data: Any) -> str:
    return str(data.get("kind", "openai") if isinstance(data, dict) else data.kind)


ExpertSettings = Annotated[
    Annotated[RemoteExpert, Tag("openai")]
    | Annotated[PackagedExpert, Tag("packaged")]
    | Annotated[CalculatorSettings, Tag("calculator")],
    Discriminator(_kind),
]


class PolicySettings(Frozen):
    """One named trade-off, asked for as `auto:<name>`; see `routers.records.Preference`."""

    cost_weight: float = Field(0, ge=0)
    latency_weight: float = Field(0, ge=0)
    min_quality: float = Field(0, ge=0, le=1)

    def preference(self) -> Preference:
        return Preference(self.cost_weight, self.latency_weight, self.min_quality)


class RoutingSettings(Frozen):
    """How `auto` decides."""

    router: str = "default"
    default_expert: str | None = None
    """Who answers when the router itself fails; the first expert if not said."""
    policy: str = "balanced"
    policies: dict[str, PolicySettings] = Field(default_factory=dict)
    epsilon: float = Field(0.02, ge=0, le=1)
    """Share of decisions drawn uniformly, so that the ledger can teach; exact in the propensity."""
    decide_s: float = Field(2.0, gt=0)
    """A router later than this is replaced by the default expert."""
    reload_s: float = Field(1.0, gt=0)
    """How often the promoted version is looked for."""


class LimitSettings(Frozen):
    """Seconds and counts that bound one request."""

    total_s: float = Field(120, gt=0)
    first_token_s: float = Field(60, gt=0)
    idle_s: float = Field(30, gt=0)
    max_attempts: int = Field(3, ge=1, le=16)
    max_body_bytes: int = Field(32 * 1024 * 1024, ge=1024)


class LedgerSettings(Frozen):
    """Where the book is and what it keeps."""

    url: str = "sqlite:///data/ledger.db"
    durability: Literal["strict", "relaxed"] = "strict"
    text: Literal["none", "hash", "redacted", "full"] = "full"
    max_pending: int = Field(10_000, ge=1)
    """Rows waiting to be written before new requests have to wait."""


class KeySettings(Frozen):
    """One key: `key` is `env:NAME`, `sha256:<hex digest>` or the key itself."""

    name: str = Field(min_length=1)
    key: str = Field(min_length=8, repr=False)
    admin: bool = False


class ServerSettings(Frozen):
    """Where we listen."""

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    allow_anonymous: bool = False
    """Serve without keys beyond this machine; on the loopback address that is always allowed."""


def _local_pool() -> tuple[ExpertSettings, ...]:
    return (
        PackagedExpert(kind="packaged", package="smollm2-135m-instruct", id="smollm2"),
        PackagedExpert(kind="packaged", package="gemma-3-270m", id="gemma"),
        CalculatorSettings(kind="calculator"),
    )


class Settings(Frozen):
    """The whole configuration. Without a file: the local pool, one router, SQLite."""

    server: ServerSettings = ServerSettings()
    keys: tuple[KeySettings, ...] = ()
    experts: tuple[ExpertSettings, ...] = Field(default_factory=_local_pool)
    aliases: dict[str, str] = Field(default_factory=dict)
    routing: RoutingSettings = RoutingSettings()
    limits: LimitSettings = LimitSettings()
    ledger: LedgerSettings = LedgerSettings()
    data_dir: Path = Path("data")
    """Routers, engine logs and measured rates."""

    @property
    def ledger_url(self) -> str:
        """The ledger's URL, taken from the environment where it says so."""
        return secret(self.ledger.url)

    @field_validator("experts")
    @classmethod
    def _unique_ids(cls, experts: tuple[ExpertSettings, ...]) -> tuple[ExpertSettings, ...]:
        ids = [expert.id for expert in experts]
        twice = sorted({i for i in ids if ids.count(i) > 1})
        if not ids or twice:
            found = f"{', '.join(twice)} given twice" if twice else "none given"
            raise ValueError(f"experts need distinct ids ({found})")
        return experts

    @model_validator(mode="after")
    def _names_exist(self) -> Settings:
        ids = {expert.id for expert in self.experts}
        default = self.routing.default_expert
        if default is not None and default not in ids:
            raise ValueError(f"routing.default_expert {default!r} is no expert's id")
        for alias, expert in self.aliases.items():
            if expert not in ids:
                raise ValueError(f"alias {alias!r} points to {expert!r}, which is no expert's id")
            if alias in ids:
                raise ValueError(f"alias {alias!r} is already an expert's id")
        return self


def load_settings(path: Path | None) -> Settings:
    """Read and check a configuration file; without one, the defaults.

    Raises:
        ConfigError: One sentence naming the file, the key and the value at fault.
    """
    if path is None:
        return Settings()
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"'{path}' can't be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"'{path}' is no YAML: {' '.join(str(error).split())}") from error
    if data is not None and not isinstance(data, dict):
        raise ConfigError(f"'{path}' must hold keys and values, not a {type(data).__name__}")
    try:
        return Settings.model_validate(data or {})
    except ValidationError as error:
        raise ConfigError(f"'{path}': {_first_fault(error)}") from error


def _first_fault(error: ValidationError) -> str:
    fault = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in fault["loc"]) or "the whole file"
    value = fault.get("input")
    # A key or a whole section is not quoted: it may hold a secret.
    shown = f" (got {value!r})" if isinstance(value, int | float | bool) else ""
    return f"`{key}`: {fault['msg'].removeprefix('Value error, ')}{shown}"
