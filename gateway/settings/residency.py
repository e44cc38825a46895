"""The `residency` section: which engines of our own share fast memory, and how they take turns."""

from __future__ import annotations

import math

from pydantic import Field

from gateway.settings.base import Frozen


class ResidentSettings(Frozen):
    """One expert whose engine sleeps and wakes by demand."""

    memory_gb: float | None = Field(None, gt=0)
    """Fast memory that it takes while it is awake, its adapters included. A server on declared
    `devices` says so in its own entry."""


class ResidencySettings(Frozen):
    """Off unless experts are named: then these sleep and wake by demand.

    They do so within `memory_gb`, and within what others leave them of each of their `devices`, see
    `experts.residency.planner.ResidencyPlanner`.
    """

    memory_gb: float | None = Field(None, ge=0)
    """Fast memory, as of all GPUs together, that the experts below share; on declared `devices` all
    that others leave them if not said."""
    host_memory_gb: float | None = Field(None, ge=0)
    """The host's memory for the weights of those that sleep; who does not fit sleeps deeper. No
    limit if not said."""
    experts: dict[str, ResidentSettings] = Field(default_factory=dict)
    """By id; each runs on an engine of ours."""
    window_s: float = Field(30, gt=0)
    """How long a request waits before busy experts make room for its own."""
    half_life_s: float = Field(300, gt=0)
    """In which what was asked counts half."""
    stay: float = Field(0.1, ge=0)
    """How often the time that waking took an expert stays awake at least."""
    wake_s: float = Field(30, gt=0)
    """What waking is taken to need until it was measured."""
    queue: int = Field(100, ge=1)
    """Requests per process that may wait for one engine to wake."""
    wait_s: float = Field(120, gt=0)
    """Longest wait for one to wake."""

    @property
    def total_gb(self) -> float:
        """What all of them share."""
        return math.inf if self.memory_gb is None else self.memory_gb

    @property
    def host_gb(self) -> float:
        """The host's memory for weights."""
        return math.inf if self.host_memory_gb is None else self.host_memory_gb
