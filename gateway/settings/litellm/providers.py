"""Where LiteLLM's providers are reached, and what it takes to call them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider that speaks OpenAI's or Anthropic's wire format.

    Attributes:
        base_url: Used when a deployment gives none; None: it has to.
        key: Environment variable with its key, used with its own URL only.
        catalogue: What the price catalogue calls it.
        kind: The kind of expert that speaks to it.
        suffix: What follows a deployment's `api_base`, which LiteLLM adds itself.
        hosted: Whether its models are large hosted ones, which call tools and follow schemas.
        local: Whether it usually runs on the operator's machines.
    """

    base_url: str | None = None
    key: str | None = None
    catalogue: str | None = None
    kind: str = "openai"
    suffix: str = ""
    hosted: bool = True
    local: bool = False


_COMPATIBLE = Provider(hosted=False)
_VLLM = Provider(hosted=False, local=True)
_OLLAMA = Provider("http://localhost:11434/v1", suffix="/v1", hosted=False, local=True)

PROVIDERS: dict[str, Provider] = {
    "openai": Provider("https://api.openai.com/v1", "OPENAI_API_KEY", "openai"),
    "anthropic": Provider(
        "https://api.anthropic.com/v1", "ANTHROPIC_API_KEY", "anthropic", "anthropic", "/v1"
    ),
    "azure": Provider(None, "AZURE_API_KEY", "azure", suffix="/openai/v1"),
    "mistral": Provider("https://api.mistral.ai/v1", "MISTRAL_API_KEY", "mistral"),
    "groq": Provider("https://api.groq.com/openai/v1", "GROQ_API_KEY", "groq"),
    "deepseek": Provider("https://api.deepseek.com/v1", "DEEPSEEK_API_KEY", "deepseek"),
    "together_ai": Provider("https://api.together.xyz/v1", "TOGETHERAI_API_KEY", "together"),
    "openrouter": Provider("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY", "openrouter"),
    "gemini": Provider(
        "https://generativelanguage.googleapis.com/v1beta/openai", "GEMINI_API_KEY", "google"
    ),
    "xai": Provider("https://api.x.ai/v1", "XAI_API_KEY", "x-ai"),
    "fireworks_ai": Provider(
        "https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY", "fireworks"
    ),
    "perplexity": Provider("https://api.perplexity.ai", "PERPLEXITYAI_API_KEY", "perplexity"),
    "cerebras": Provider("https://api.cerebras.ai/v1", "CEREBRAS_API_KEY", "cerebras"),
    "deepinfra": Provider("https://api.deepinfra.com/v1/openai", "DEEPINFRA_API_KEY"),
    "nvidia_nim": Provider("https://integrate.api.nvidia.com/v1", "NVIDIA_NIM_API_KEY"),
    "sambanova": Provider("https://api.sambanova.ai/v1", "SAMBANOVA_API_KEY"),
    "ollama": _OLLAMA,
    "ollama_chat": _OLLAMA,
    "lm_studio": Provider("http://localhost:1234/v1", hosted=False, local=True),
    "hosted_vllm": _VLLM,
    "vllm": _VLLM,
    "openai_like": _COMPATIBLE,
    "custom_openai": _COMPATIBLE,
    "litellm_proxy": _COMPATIBLE,
    "text-completion-openai": Provider(
        "https://api.openai.com/v1", "OPENAI_API_KEY", "openai", hosted=False
    ),
}
_OPENAI_NAMES = ("gpt-", "chatgpt-", "o1", "o3", "o4", "text-embedding-")


def split_model(model: str, named: str | None) -> tuple[str, str]:
    """LiteLLM's `provider/model`, or a bare name of a well-known family, as provider and model.

    Args:
        model: As `litellm_params` has it.
        named: Its `custom_llm_provider`, if it gives one.

    Returns:
        The provider, "" when nothing says which, and the name that it knows the model by.
    """
    prefix, slash, rest = model.partition("/")
    if named is not None:
        return named, rest if slash and prefix == named else model
    if slash and prefix in PROVIDERS:
        return prefix, rest
    if model.startswith("claude-"):
        return "anthropic", model
    if model.startswith(_OPENAI_NAMES):
        return "openai", model
    return (prefix, rest) if slash else ("", model)
