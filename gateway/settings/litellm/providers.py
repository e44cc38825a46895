"""LiteLLM's names of providers, and what it does otherwise than `gateway.settings.providers`."""

from __future__ import annotations

from dataclasses import replace

from gateway.settings import providers
from gateway.settings.providers import Provider

_COMPATIBLE = Provider(hosted=False)
_OURS = {
    name: replace(provider, max_tokens_field=None) for name, provider in providers.PROVIDERS.items()
}
_OTHERWISE = ("bedrock", "together", "fireworks", "nvidia")
"""Names that it does not have, or has for another wire format."""

PROVIDERS: dict[str, Provider] = {
    **{name: provider for name, provider in _OURS.items() if name not in _OTHERWISE},
    # Each of its deployments has an `api_base`.
    "azure": replace(_OURS["azure"], base_url=None, key="AZURE_API_KEY"),
    "together_ai": replace(_OURS["together"], key="TOGETHERAI_API_KEY"),
    "fireworks_ai": _OURS["fireworks"],
    "perplexity": replace(_OURS["perplexity"], key="PERPLEXITYAI_API_KEY"),
    "nvidia_nim": replace(_OURS["nvidia"], key="NVIDIA_NIM_API_KEY"),
    "ollama_chat": _OURS["ollama"],
    "hosted_vllm": _OURS["vllm"],
    "openai_like": _COMPATIBLE,
    "custom_openai": _COMPATIBLE,
    "litellm_proxy": _COMPATIBLE,
    "text-completion-openai": replace(_OURS["openai"], hosted=False),
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
