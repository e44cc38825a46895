"""The `execution`, `breaker` and `balance` sections: how a decision is carried out."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from experts.http.breaker import BreakerRules
from experts.http.replicas import Balance
from gateway.settings.base import Frozen


class BreakerSettings(Frozen):
    """When an expert is taken out of service, and for how long; see `experts.http.breaker`."""

    failures: int = Field(5, ge=1)
    rate: float = Field(0.75, gt=0, le=1)
    window: int = Field(20, ge=1, le=1000)
    open_s: float = Field(5, gt=0)
    max_open_s: float = Field(15, gt=0)
    probe_s: float = Field(60, gt=0)
    max_pause_s: float = Field(60, gt=0)
    """Longest pause that a provider can ask for."""
    alone_s: float = Field(1, ge=0)
    """Longest time out of service for requests that nobody else can answer; 0: as for all."""

    def rules(self) -> BreakerRules:
        return BreakerRules(
            self.failures,
            self.rate,
            self.window,
            self.open_s,
            self.max_open_s,
            self.probe_s,
            self.max_pause_s,
            self.alone_s,
        )


Kind = Literal["auth", "invalid_request", "content_filter"]


class ExecutionSettings(Frozen):
    """What happens between a decision and its answer."""

    fallbacks: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Who stands in for an expert, in order, even if the client named it."""
    fallback_on: frozenset[Kind] = frozenset()
    """Refusals that another expert is asked about all the same."""
    max_retries: int = Field(2, ge=0, le=10)
    """How often the same expert is asked again."""
    backoff_s: float = Field(0.25, gt=0)
    max_backoff_s: float = Field(8, gt=0)
    """First and longest pause before the same expert is asked again."""
    named_wait_s: float = Field(3, ge=0)
    """Longest pause after which an expert that the client named is asked once more before those
    that stand in for it; 0: they are asked at once."""
    max_wait_s: float = Field(10, ge=0)
    """Longest wait for an expert that asked for a pause, when nobody else is left."""
    retry_ratio: float = Field(0.2, ge=0)
    retries_per_s: float = Field(10, ge=0)
    """What the process may retry: a share of its requests, and so many per second on top."""
    hedge_after_s: float | None = Field(None, gt=0)
    """Silence after which a second expert is asked as well; the first token wins."""
    hold_back_s: float = Field(0, ge=0)
    hold_back_tokens: int = Field(0, ge=0)
    """How long, or for how many pieces, the beginning of a stream is kept back from the client."""
    mid_stream: Literal["resume", "error"] = "resume"
    """What follows when a stream breaks that the client has begun to read."""
    queue: int = Field(100, ge=0)
    """Calls that may wait for a slot of one expert that has `max_concurrency`."""
    queue_s: float = Field(10, gt=0)
    """Longest wait for a slot."""


class BalanceSettings(Frozen):
    """How calls are spread over an expert's `base_urls`; see `experts.http.replicas.Balance`."""

    session_margin: int = Field(8, ge=0)
    prefix_margin: int = Field(2, ge=0)
    prefix_chars: int = Field(512, ge=1)
    headroom: float = Field(1.25, ge=1)
    load_s: float = Field(1, gt=0)
    """How often endpoints that tell their load are asked for it."""

    def balance(self) -> Balance:
        return Balance(self.session_margin, self.prefix_margin, self.prefix_chars, self.headroom)
