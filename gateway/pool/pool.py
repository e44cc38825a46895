"""Builds the experts that the settings name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import NamedTuple, TypedDict

import numpy as np

from experts.base import Expert
from experts.cards import ExpertCard, FewShotPrompt, Location, Prices, Privacy
from experts.embedder import EmbedderExpert
from experts.http.anthropic import AnthropicExpert
from experts.http.expert import HttpOptions
from experts.http.openai_compatible import OpenAICompatibleExpert
from experts.pricing import catalogue_context, catalogue_prices, prices_from_rates
from experts.tiers import with_egress
from experts.weights.packaged import PACKAGED
from experts.wire.anthropic import Habits
from gateway.engines.local import Endpoints, EngineEndpoint
from gateway.settings.base import secret
from gateway.settings.cards import CalledSettings
from gateway.settings.composed import CompositionSettings
from gateway.settings.execution import BalanceSettings, BreakerSettings
from gateway.settings.experts import (
    AnthropicSettings,
    CalculatorSettings,
    EmbedderSettings,
    RemoteExpert,
    SingleSettings,
    UrlExpert,
)
from gateway.settings.local import InEngineSettings, PackagedExpert
from gateway.settings.root import Settings


class _Here(TypedDict):
    """What is said of experts that run on this machine."""

    local: bool
    location: Location
    privacy: Privacy


class _TextOnly(TypedDict):
    """What is said of experts that only ever talk."""

    modalities: frozenset[str]
    tools: bool
    structured_output: bool


_HERE: _Here = {"local": True, "location": "device", "privacy": "private"}
_TEXT_ONLY: _TextOnly = {
    "modalities": frozenset({"text"}),
    "tools": False,
    "structured_output": False,
}


@dataclass(frozen=True, slots=True)
class Pool:
    """The experts by id. Immutable: a changed pool is a new one."""

    experts: Mapping[str, Expert]

    @property
    def cards(self) -> tuple[ExpertCard, ...]:
        return tuple(self.experts[name].card for name in sorted(self.experts))

    def card(self, expert_id: str) -> ExpertCard:
        return self.experts[expert_id].card


class Shared(NamedTuple):
    """What remote experts are built with beside their own entries: who is kept depends on it."""

    max_answer_bytes: int
    balance: BalanceSettings
    breaker: BreakerSettings


def shared(settings: Settings) -> Shared:
    """The part of the settings that every remote expert is built with."""
    return Shared(settings.limits.max_answer_bytes, settings.balance, settings.breaker)


def build_experts(
    settings: Settings, endpoints: Endpoints, kept: Mapping[str, Expert] = MappingProxyType({})
) -> dict[str, Expert]:
    """One expert per entry; packaged ones talk to their engine's endpoint.

    What a composition is expected to cost follows whom it asked so far, by the ledger.

    Args:
        settings: Which experts there are.
        endpoints: Where the engines of packaged ones listen, by expert id.
        kept: Experts to take as they are, by id.

    Raises:
        ConfigError: A secret's environment variable is not set.
        ExpertConfigError: An expert lacks what it needs.
    """
    common = shared(settings)
    single = {
        entry.id: kept[entry.id] if entry.id in kept else _build(entry, common, endpoints)
        for entry in settings.experts
        if not isinstance(entry, CompositionSettings)
    }
    if len(single) == len(settings.experts):
        return single
    every = single | _composed(settings, single)
    return {entry.id: every[entry.id] for entry in settings.experts}


def _composed(settings: Settings, single: Mapping[str, Expert]) -> dict[str, Expert]:
    """The compositions; they hold nothing of their own, so they are made anew at each reload."""
    # Most pools have none, and a gateway without starts faster.
    from gateway.ledger.calls import calls_known
    from gateway.pool.composing import Composer

    chance = np.random.default_rng().random
    named = [entry.id for entry in settings.experts if isinstance(entry, CompositionSettings)]
    made = calls_known(settings.ledger_url, named)
    return Composer(settings.experts, single, chance, settings.outcomes.code, made).build()


def _build(entry: SingleSettings, common: Shared, endpoints: Endpoints) -> Expert:
    if isinstance(entry, PackagedExpert):
        return _packaged(entry, endpoints[entry.id])
    if isinstance(entry, InEngineSettings):
        return _in_engine(entry, common, endpoints[entry.id])
    if isinstance(entry, CalculatorSettings):
        # Its patterns take a while to compile, and most pools do without.
        from experts.calculator.calculator import CalculatorExpert

        return CalculatorExpert(_calculator_card(entry.id))
    if isinstance(entry, EmbedderSettings):
        return _embedder(entry)
    if isinstance(entry, AnthropicSettings):
        return _anthropic(entry, common)
    return _remote(entry, common)


def _anthropic(entry: AnthropicSettings, common: Shared) -> Expert:
    return AnthropicExpert(
        _card(entry),
        entry.urls,
        entry.model or entry.id,
        api_key=secret(entry.api_key) if entry.api_key else None,
        version=entry.version,
        habits=Habits(entry.thinking, entry.json_by, entry.betas),
        **_options(entry, common),
    )


def _card(entry: CalledSettings, prompt: FewShotPrompt | None = None) -> ExpertCard:
    at = datetime.now(UTC)
    return replace(entry.card(prices_of(entry, at), prompt), context_tokens=context_of(entry, at))


def _options(entry: UrlExpert, common: Shared) -> HttpOptions:
    return {
        "connect_s": entry.connect_s,
        "max_answer_bytes": common.max_answer_bytes,
        "balance": common.balance.balance(),
        "rules": common.breaker.rules(),
    }


def _remote(entry: RemoteExpert, common: Shared) -> Expert:
    card = _card(entry, entry.prompt.prompt() if entry.prompt else None)
    return OpenAICompatibleExpert(
        replace(card, api=entry.api, space=space_of(entry)),
        entry.urls,
        entry.model or entry.id,
        api_key=secret(entry.api_key) if entry.api_key else None,
        max_tokens_field=entry.max_tokens_field,
        **_options(entry, common),
    )


def space_of(entry: RemoteExpert) -> str:
    """What the vectors of an embedder can be compared within; "" of any other expert."""
    return (entry.space or entry.model or entry.id) if entry.api == "embeddings" else ""


def prices_of(entry: CalledSettings, at: datetime) -> Prices | None:
    """The prices that the settings name or the catalogue knows, with the network's.

    None when neither does.
    """
    if entry.prices is not None:
        prices: Prices | None = entry.prices.prices()
    else:
        prices = catalogue_prices(entry.catalogue, at) if entry.catalogue else None
    return None if prices is None else with_egress(prices, entry.egress_usd_per_gb)


def context_of(entry: CalledSettings, at: datetime) -> int | None:
    """The context window that the settings name or the catalogue knows; None when neither does."""
    if entry.context_tokens is not None or not entry.catalogue:
        return entry.context_tokens
    return catalogue_context(entry.catalogue, at)


def _packaged(entry: PackagedExpert, endpoint: EngineEndpoint) -> Expert:
    model = PACKAGED[entry.package]
    card = ExpertCard(
        expert_id=entry.id,
        description=model.description,
        prices=(prices_from_rates(endpoint.rates, entry.usd_per_hour) if endpoint.rates else None),
        context_tokens=model.context_tokens,
        **_HERE,
        quality_prior=model.quality_prior,
        params_active_b=model.params_b,
        params_total_b=model.params_b,
        released=model.released,
        tags={"licence": model.licence},
        prompt=model.prompt,
        **_TEXT_ONLY,
    )
    return OpenAICompatibleExpert(card, endpoint.base_url, entry.id)


def _in_engine(entry: InEngineSettings, common: Shared, endpoint: EngineEndpoint) -> Expert:
    return OpenAICompatibleExpert(
        _card(entry),
        endpoint.base_url,
        entry.served_as,
        api_key=endpoint.api_key,
        max_answer_bytes=common.max_answer_bytes,
    )


def _embedder(entry: EmbedderSettings) -> Expert:
    # Few have one, and what makes vectors takes long to load.
    from gateway.embedding.encoders import encoder_of

    made = encoder_of(entry)
    card = ExpertCard(
        expert_id=entry.id,
        description=entry.description,
        prices=Prices(entry.usd_per_mtok, 0, source="config"),
        **_HERE,
        quality_prior=entry.quality_prior,
        api="embeddings",
        space=made.space,
    )
    return EmbedderExpert(card, made.encode)


def _calculator_card(expert_id: str) -> ExpertCard:
    return ExpertCard(
        expert_id=expert_id,
        description="Exact arithmetic and unit conversion, nothing else.",
        prices=Prices(0, 0, source="runs in the gateway"),
        **_HERE,
        **_TEXT_ONLY,
        quality_prior=0.1,
    )
