"""One entry of LiteLLM's `model_list` as an expert."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.errors import ConfigError
from gateway.settings.base import secret, variable
from gateway.settings.faults import Place
from gateway.settings.litellm.providers import PROVIDERS, split_model
from gateway.settings.providers import Provider

_MODES = {"chat": "chat", "completion": "completions", "embedding": "embeddings"}
_PRICES = {
    "input_cost_per_token": "input",
    "output_cost_per_token": "output",
    "cache_read_input_token_cost": "cache_read",
    "cache_creation_input_token_cost": "cache_write",
}
_SENSES = {
    "supports_vision": "image",
    "supports_audio_input": "audio",
    "supports_pdf_input": "file",
}
_ABILITIES = {
    "supports_function_calling": "tools",
    "supports_response_schema": "structured_output",
    "supports_assistant_prefill": "prefill",
}
_PER_MILLION = 1e6


@dataclass(slots=True)
class Deployment:
    """What was understood of one entry.

    Attributes:
        name: Its `model_name`.
        place: Where it stands.
        expert: An entry of our `experts`, without its id; None when it can't be served.
        origins: Keys of `expert` to where their values stand.
        left: What was not understood, with the reason.
        faults: Why the whole configuration can't be used.
        timeout_s: Its own time limit, if it has one.
        stream_timeout_s: That for streams.
    """

    name: str
    place: Place
    expert: dict[str, Any] | None = None
    origins: dict[Place, Place] = field(default_factory=dict)
    left: list[tuple[Place, str]] = field(default_factory=list)
    faults: list[tuple[Place, str]] = field(default_factory=list)
    timeout_s: Any = None
    stream_timeout_s: Any = None


def read_deployment(entry: Mapping[str, Any], place: Place) -> Deployment:
    """Understand one entry of `model_list` of the form that `translate` has checked."""
    params: dict[str, Any] = dict(entry["litellm_params"])
    info: dict[str, Any] = dict(entry.get("model_info") or {})
    found = Deployment(entry["model_name"], place)
    named, model = params.pop("custom_llm_provider", None), str(params.pop("model"))
    provider_name, model = split_model(model, named if isinstance(named, str) else None)
    base = params.pop("api_base", None) or params.pop("base_url", None)
    provider = PROVIDERS.get(provider_name)
    where = (*place, "litellm_params", "model")
    if "*" in found.name or "*" in model:
        found.left.append((where, _no_pattern(found.name, provider_name)))
        return found
    if provider is None and base is None:
        said = f"the provider {provider_name!r}" if provider_name else "its provider"
        found.left.append((where, f"not served: {said} is not known here, and it has no api_base"))
        return found
    provider = provider or Provider(hosted=False)
    if base is None and provider.base_url is None:
        found.left.append((where, f"not served: {provider_name} needs an api_base"))
        return found
    found.expert = {"kind": provider.kind, "model": model}
    found.origins[("model",)] = where
    _reach(found, params, provider, base)
    _pay(found, params, info, provider)
    _describe(found, info, provider)
    _own_rules(found, params)
    _report(found, params, info)
    return found


def _no_pattern(name: str, provider: str) -> str:
    """What to write in place of `openai/*`, which would serve models that nobody has named."""
    served = provider if provider in PROVIDERS else "openai"
    example = f"{{model_name: NAME, litellm_params: {{model: {served}/NAME}}}}"
    return f"{name!r} is not taken over: name each model that is to be served, as {example}"


def _reach(found: Deployment, params: dict[str, Any], provider: Provider, base: Any) -> None:
    """URL and key. A provider's key from the environment goes to that provider's own URL only."""
    expert, place = _of(found), (*found.place, "litellm_params")
    if isinstance(base, str) and variable(base) is not None:
        try:
            base = secret(base)
        except ConfigError as error:
            found.faults.append(((*place, "api_base"), str(error)))
    if isinstance(base, str) and provider.suffix:
        base = base.rstrip("/").removesuffix(provider.suffix) + provider.suffix
    expert["base_url"] = base if base is not None else provider.base_url
    found.origins[("base_url",)] = (*place, "api_base" if base is not None else "model")
    if params.get("api_key") not in (None, ""):
        expert["api_key"] = params["api_key"]
        found.origins[("api_key",)] = (*place, "api_key")
    elif provider.key and (base is None or not provider.base_url):
        expert["api_key"] = f"env:{provider.key}"
        found.origins[("api_key",)] = (*place, "model")
    params.pop("api_key", None)
    if provider.suffix == "/openai/v1":
        # Azure's own version of OpenAI's API needs none.
        params.pop("api_version", None)
    if provider.local:
        expert["local"] = True


def _pay(
    found: Deployment, params: dict[str, Any], info: dict[str, Any], provider: Provider
) -> None:
    """Prices, which LiteLLM gives per token and in either of two sections."""
    expert, prices = _of(found), {}
    for theirs, ours in _PRICES.items():
        for section, values in (("model_info", info), ("litellm_params", params)):
            if theirs not in values:
                continue
            prices[ours] = _per_million(values.pop(theirs))
            found.origins[("prices", ours)] = (*found.place, section, theirs)
    if prices:
        if info.get("mode") == "embedding":
            prices.setdefault("output", 0)
        expert["prices"] = prices
        for theirs, ours in _PRICES.items():
            found.origins.setdefault(("prices", ours), (*found.place, "model_info", theirs))
        return
    base_model = info.pop("base_model", None)
    if isinstance(base_model, str):
        expert["catalogue"] = base_model
        found.origins[("catalogue",)] = (*found.place, "model_info", "base_model")
    elif provider.catalogue is not None:
        expert["catalogue"] = f"{provider.catalogue}/{expert['model']}"
        found.origins[("catalogue",)] = (*found.place, "litellm_params", "model")


def _per_million(value: Any) -> Any:
    """A price per token as one per million; what is no number stays, to be refused."""
    try:
        return value if isinstance(value, bool) else round(float(value) * _PER_MILLION, 9)
    except (TypeError, ValueError):
        return value


def _describe(found: Deployment, info: dict[str, Any], provider: Provider) -> None:
    """What it can do. A hosted model is taken to call tools unless its `model_info` says no."""
    expert, place = _of(found), (*found.place, "model_info")
    for theirs, ours in _ABILITIES.items():
        if theirs in info:
            expert[ours] = info.pop(theirs)
            found.origins[(ours,)] = (*place, theirs)
    if provider.hosted:
        expert.setdefault("tools", True)
        expert.setdefault("structured_output", True)
    said = {ours: info.pop(theirs) for theirs, ours in _SENSES.items() if theirs in info}
    if said:
        expert["modalities"] = ["text", *(sense for sense, able in said.items() if able is True)]
    for theirs, ours in (
        ("max_input_tokens", "context_tokens"),
        ("max_output_tokens", "max_output_tokens"),
        ("description", "description"),
    ):
        if info.get(theirs) is not None:
            expert[ours] = info.pop(theirs)
            found.origins[(ours,)] = (*place, theirs)
    info.pop("max_tokens", None)
    mode = _MODES.get(str(info.get("mode", "chat")))
    if mode is not None and provider.kind == "openai":
        info.pop("mode", None)
        if mode != "chat":
            expert["api"] = mode


def _own_rules(found: Deployment, params: dict[str, Any]) -> None:
    """What LiteLLM lets each deployment decide for itself."""
    expert, place = _of(found), (*found.place, "litellm_params")
    if params.get("max_parallel_requests") is not None:
        expert["max_concurrency"] = params.pop("max_parallel_requests")
        found.origins[("max_concurrency",)] = (*place, "max_parallel_requests")
    if params.pop("drop_params", False) is True:
        expert["params"] = "drop"
    found.timeout_s = params.pop("timeout", None)
    found.stream_timeout_s = params.pop("stream_timeout", None) or found.timeout_s
    for name in ("rpm", "tpm"):
        if params.pop(name, None) is not None:
            reason = "is not enforced: limits belong to keys here, and a provider's 429 is heeded"
            found.left.append(((*place, name), reason))


def _report(found: Deployment, params: dict[str, Any], info: dict[str, Any]) -> None:
    for section, values in (("litellm_params", params), ("model_info", info)):
        found.left += [
            ((*found.place, section, name), "is not understood and has no effect")
            for name, value in values.items()
            if value is not None
        ]


def _of(found: Deployment) -> dict[str, Any]:
    assert found.expert is not None  # noqa: S101 - only for those that are served
    return found.expert
