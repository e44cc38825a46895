"""Well-known providers: where they are reached, what they take, and what their models can do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from string import Formatter
from typing import Any

from gateway.settings.explain import nearest, refusal


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider that speaks OpenAI's or Anthropic's wire format.

    Attributes:
        base_url: Its URL, with `{region}` or `{resource}` where every customer has another; None:
            an expert must say it.
        key: Environment variable with its key, used with its own URL only.
        catalogue: What the price catalogue calls it.
        kind: The kind of expert that speaks to it.
        suffix: What follows the host of a URL of one's own, which LiteLLM adds itself.
        max_tokens_field: What it calls the longest answer; None: what the client called it.
        hosted: Whether its models are large hosted ones, which call tools and follow schemas.
        local: Whether it usually runs on the operator's machines.
        tells_load: Whether its servers say at `/metrics` how busy they are.
    """

    base_url: str | None = None
    key: str | None = None
    catalogue: str | None = None
    kind: str = "openai"
    suffix: str = ""
    max_tokens_field: str | None = None
    hosted: bool = True
    local: bool = False
    tells_load: bool = False

    @property
    def asks(self) -> frozenset[str]:
        """The keys that its URL is made with."""
        names = (name for _, name, _, _ in Formatter().parse(self.base_url or "") if name)
        return frozenset(names)


_NEW, _OLD = "max_completion_tokens", "max_tokens"

PROVIDERS: dict[str, Provider] = {
    "openai": Provider(
        "https://api.openai.com/v1", "OPENAI_API_KEY", "openai", max_tokens_field=_NEW
    ),
    "anthropic": Provider(
        "https://api.anthropic.com/v1", "ANTHROPIC_API_KEY", "anthropic", "anthropic", "/v1"
    ),
    "azure": Provider(
        "https://{resource}.openai.azure.com/openai/v1",
        "AZURE_OPENAI_API_KEY",
        "azure",
        suffix="/openai/v1",
        max_tokens_field=_NEW,
    ),
    "bedrock": Provider(
        "https://bedrock-runtime.{region}.amazonaws.com/openai/v1",
        "AWS_BEARER_TOKEN_BEDROCK",
        "aws",
    ),
    "gemini": Provider(
        "https://generativelanguage.googleapis.com/v1beta/openai",
        "GEMINI_API_KEY",
        "google",
        max_tokens_field=_OLD,
    ),
    "mistral": Provider(
        "https://api.mistral.ai/v1", "MISTRAL_API_KEY", "mistral", max_tokens_field=_OLD
    ),
    "together": Provider(
        "https://api.together.xyz/v1", "TOGETHER_API_KEY", "together", max_tokens_field=_OLD
    ),
    "openrouter": Provider("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY", "openrouter"),
    "groq": Provider("https://api.groq.com/openai/v1", "GROQ_API_KEY", "groq"),
    "deepseek": Provider(
        "https://api.deepseek.com/v1", "DEEPSEEK_API_KEY", "deepseek", max_tokens_field=_OLD
    ),
    "xai": Provider("https://api.x.ai/v1", "XAI_API_KEY", "x-ai"),
    "fireworks": Provider(
        "https://api.fireworks.ai/inference/v1",
        "FIREWORKS_API_KEY",
        "fireworks",
        max_tokens_field=_OLD,
    ),
    "perplexity": Provider(
        "https://api.perplexity.ai", "PERPLEXITY_API_KEY", "perplexity", max_tokens_field=_OLD
    ),
    "cerebras": Provider("https://api.cerebras.ai/v1", "CEREBRAS_API_KEY", "cerebras"),
    "deepinfra": Provider("https://api.deepinfra.com/v1/openai", "DEEPINFRA_API_KEY"),
    "nvidia": Provider("https://integrate.api.nvidia.com/v1", "NVIDIA_API_KEY"),
    "sambanova": Provider("https://api.sambanova.ai/v1", "SAMBANOVA_API_KEY"),
    "ollama": Provider(
        "http://localhost:11434/v1",
        suffix="/v1",
        max_tokens_field=_OLD,
        hosted=False,
        local=True,
    ),
    "lm_studio": Provider("http://localhost:1234/v1", hosted=False, local=True),
    "vllm": Provider(hosted=False, local=True, tells_load=True),
}
_PLACEMENT = ("region", "resource")
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,62}")


def preset(entry: Mapping[str, Any]) -> dict[str, Any]:
    """An expert's entry with what its `provider` says filled in; what the entry says stands.

    The provider's key is taken from the environment for its own URL only.

    Raises:
        ValidationError: No such provider, or its URL lacks a part.
    """
    filled = dict(entry)
    name = filled.get("provider")
    if name is None:
        return filled
    provider = PROVIDERS.get(str(name))
    if provider is None:
        raise refusal([(("provider",), f"is no provider known here{nearest(str(name), known())}")])
    filled.setdefault("kind", provider.kind)
    own = not (filled.get("base_url") or filled.get("base_urls"))
    if own:
        filled["base_url"] = _url(str(name), provider, filled)
        if provider.key:
            filled.setdefault("api_key", f"env:{provider.key}")
    model = filled.get("model") or filled.get("id")
    if provider.catalogue and filled.get("prices") is None and model:
        filled.setdefault("catalogue", f"{provider.catalogue}/{model}")
    if provider.hosted and filled.get("api", "chat") == "chat":
        filled.setdefault("tools", True)
        filled.setdefault("structured_output", True)
    if provider.local:
        filled.setdefault("local", True)
    if provider.tells_load:
        filled.setdefault("tells_load", True)
    if provider.max_tokens_field and provider.kind == "openai":
        filled.setdefault("max_tokens_field", provider.max_tokens_field)
    return filled


def known() -> tuple[str, ...]:
    """The names that `provider` takes."""
    return tuple(PROVIDERS)


def _url(name: str, provider: Provider, entry: Mapping[str, Any]) -> str:
    if provider.base_url is None:
        raise refusal([(("provider",), f"{name} has no URL of its own: give `base_url`")])
    for part in _PLACEMENT:
        value = entry.get(part)
        if part in provider.asks and value is None:
            raise refusal([(("provider",), f"{name} needs `{part}`, or `base_url`")])
        if part in provider.asks and not _PLAIN.fullmatch(str(value)):
            raise refusal([((part,), "must be letters, digits and hyphens")])
        if part not in provider.asks and value is not None:
            raise refusal([((part,), f"means nothing to {name}")])
    return provider.base_url.format_map({part: entry.get(part) for part in provider.asks})
