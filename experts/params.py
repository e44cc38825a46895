"""Which fields of a request an expert knows, and what becomes of the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from experts.cards import ExpertCard
from experts.messages import ChatRequest, Json, Source, Task

_SAMPLING = frozenset(
    {
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "max_completion_tokens",
        "n",
        "presence_penalty",
        "seed",
        "stop",
        "stream_options",
        "temperature",
        "top_p",
        "user",
    }
)
_CHAT = frozenset(
    {
        "audio",
        "function_call",
        "functions",
        "metadata",
        "modalities",
        "parallel_tool_calls",
        "prediction",
        "prompt_cache_key",
        "prompt_cache_retention",
        "reasoning_effort",
        "response_format",
        "safety_identifier",
        "service_tier",
        "store",
        "tool_choice",
        "tools",
        "top_logprobs",
        "verbosity",
        "web_search_options",
    }
)
KNOWN_PARAMS: Mapping[Task, frozenset[str]] = {
    "chat": _SAMPLING | _CHAT,
    "complete": _SAMPLING | {"best_of", "echo", "suffix"},
    "embed": frozenset({"dimensions", "encoding_format", "user"}),
}
"""OpenAI's own fields for each task, those that every request has left out."""

_ANTHROPIC = frozenset(
    {
        "cache_control",
        "container",
        "context_management",
        "diagnostics",
        "inference_geo",
        "mcp_servers",
        "output_config",
        "speed",
        "thinking",
        "top_k",
        "user_profile_id",
    }
)
_UNSAID_BY_ANTHROPIC = frozenset(
    {
        "audio",
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "modalities",
        "prediction",
        "presence_penalty",
        "seed",
        "top_logprobs",
        "verbosity",
        "web_search_options",
    }
)
ANTHROPIC_PARAMS = (KNOWN_PARAMS["chat"] - _UNSAID_BY_ANTHROPIC) | _ANTHROPIC
"""OpenAI's fields that Anthropic's wire can say, and those it has beside them."""

_OF_ANTHROPIC: Mapping[Task, frozenset[str]] = {
    "chat": ANTHROPIC_PARAMS,
    "complete": ANTHROPIC_PARAMS | {"best_of", "echo"},
    "embed": ANTHROPIC_PARAMS,
}

PREFILL_PARAMS = frozenset({"add_generation_prompt", "continue_final_message"})
"""vLLM's fields for going on with a last assistant message."""


def unknown_params(request: ChatRequest, card: ExpertCard) -> tuple[str, ...]:
    """Fields of `request` that neither its wire nor `card` itself knows, sorted."""
    params = request.params.keys()
    of_wire = (_OF_ANTHROPIC if card.wire == "anthropic" else KNOWN_PARAMS)[request.task]
    if params <= of_wire:
        return ()
    known = of_wire | card.params_allow
    if card.prefill:
        known |= PREFILL_PARAMS
    return tuple(sorted(params - known))


def refused_params(request: ChatRequest, card: ExpertCard) -> tuple[str, ...]:
    """The fields for which this expert, or a model behind it, refuses the request."""
    if card.members:
        return _of_any(refused_params(request, leaf) for leaf in card.leaves)
    return unknown_params(request, card) if card.params == "strict" else ()


def dropped_params(request: ChatRequest, card: ExpertCard) -> tuple[str, ...]:
    """The fields that this expert, or a model behind it, does not get to see."""
    if card.members:
        return _of_any(dropped_params(request, leaf) for leaf in card.leaves)
    return unknown_params(request, card) if card.params == "drop" else ()


def with_known_params(request: ChatRequest, card: ExpertCard) -> ChatRequest:
    """`request` as an expert of this card takes it."""
    dropped = dropped_params(request, card)
    if not dropped:
        return request
    kept = {name: value for name, value in request.params.items() if name not in dropped}
    source = request.source and _without(request.source, dropped, request, kept)
    return replace(request, params=kept, source=source)


def _of_any(found: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(sorted({name for names in found for name in names}))


def _without(
    source: Source, dropped: tuple[str, ...], request: ChatRequest, kept: Json
) -> Source | None:
    """The source without the same fields, which go by the same name on every wire."""
    body = request.source_on(source.wire)
    if body is None:
        return None
    said = {name: value for name, value in body.items() if name not in dropped}
    return replace(source, data=said, made=(request.messages, request.max_tokens, kept))
