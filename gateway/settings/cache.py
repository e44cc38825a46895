"""The `cache` section: which answers are given again instead of being asked for again."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from gateway.settings.base import Frozen


class SemanticSettings(Frozen):
    """Answers of questions that only nearly are the same."""

    threshold: float = Field(0.95, ge=0.5, le=1)
    """Least cosine between the question and one that was answered."""


class CacheSettings(Frozen):
    """Off until `exact` or `semantic` is said; one process keeps its own, in memory."""

    exact: bool = False
    semantic: SemanticSettings | None = None
    scope: Literal["key", "project"] = "key"
    """Who shares answers: nobody but the key, or keys of one project that have the same rights."""
    ttl_s: float = Field(3600, gt=0)
    max_entries: int = Field(10_000, ge=1)
    max_bytes: int = Field(64 * 1024 * 1024, ge=1024)
    max_temperature: float | None = Field(None, ge=0)
    """Requests with a higher `temperature` are always asked afresh; without it, none are."""
    finish_reasons: frozenset[str] = frozenset({"stop", "length", "tool_calls", "function_call"})
    """Answers that ended otherwise are not kept."""

    @property
    def on(self) -> bool:
        """Whether anything is kept at all."""
        return self.exact or self.semantic is not None
