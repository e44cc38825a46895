"""The `routing` section: how `auto` decides."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from gateway.settings.base import Frozen
from gateway.settings.policies import PolicyOfAKind

# Names go into headers of answers; a router's is a directory too.
Name = Annotated[str, Field(max_length=200, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.:@+-]*$")]


class RoutingSettings(Frozen):
    """How `auto` decides."""

    router: Name = "default"
    default_expert: str | None = None
    """Who answers when the router itself fails; the first expert if not said."""
    embeddings_expert: str | None = None
    """Who embeds under `auto`; the cheapest of those that do if not said."""
    embeddings_router: Name | None = None
    """Who chooses among embedders where a request says what its vectors are for."""
    policy: str = "balanced"
    policies: dict[Name, PolicyOfAKind] = Field(default_factory=dict)
    epsilon: float = Field(0.02, ge=0, le=1)
    """Share of decisions drawn uniformly, so that the ledger can teach; exact in the propensity."""
    explore_budget_usd: float | None = Field(None, ge=0)
    """What exploring may cost a day (UTC) above the likeliest choice, as expected when deciding."""
    decide_s: float = Field(2.0, gt=0)
    """A router later than this is replaced by the default expert."""
    reload_s: float = Field(1.0, gt=0)
    """How often the promoted version is looked for."""
