"""The `retrain` section: when routers learn anew, and what a new one must show."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from gateway.settings.base import RESTART, Frozen
from routers.registry import DEFAULT_ESTIMATOR


class GateSettings(Frozen):
    """What the log must say of a new router; see `eval.promotion.gate.GateRules`."""

    level: float = Field(0.95, gt=0.5, lt=1)
    most_quality_loss: float = Field(0.01, ge=0, le=1)
    most_ece: float = Field(0.1, gt=0, le=1)
    most_slice_loss: float = Field(0.03, ge=0, le=1)
    fewest_in_slice: int = Field(50, ge=2)
    most_decide_ms: float = Field(5.0, gt=0)


class TrialSettings(Frozen):
    """How a new router is tried on live requests; see `eval.promotion.canary.CanaryRules`."""

    shadow_decisions: int = Field(50, ge=0)
    """Requests on which it only says what it would do, first; 0 leaves that out."""
    share: float = Field(0.1, gt=0, lt=1)
    """Of the requests that it then decides."""
    most_loss: float = Field(0.02, ge=0, le=1)
    most_scored: int = Field(5000, ge=100)
    most_failures: float = Field(0.05, ge=0, le=1)


class DriftSettings(Frozen):
    """When the world has moved; see `eval.drift.residuals` and `eval.drift.prompts`."""

    detector: Literal["page_hinkley", "adwin"] = "page_hinkley"
    """Which test looks at experts' scores."""
    delta: float = Field(0.002, gt=0, lt=1)
    """Of `adwin`: chance of a false alarm that each look at a window is meant to have at most."""
    slack: float = Field(0.1, gt=0, lt=1)
    """Changes of an expert's scores that are let pass, in points from 0 to 1."""
    threshold: float = Field(12.0, gt=0)
    """How far the scores must run away in all; higher: fewer false alarms, later true ones."""
    least_scores: int = Field(30, ge=2)
    """Scores of an expert before anything is said of it."""
    min_new_scores: int = Field(100, ge=1)
    """Scores after a drift was found before it is learned from."""
    prompts_reference: int = Field(1000, ge=100)
    """Prompts that newer ones are compared with, to see whether people ask other things."""
    prompts_alarm_every: float = Field(100_000, gt=1)
    """Prompts for each false alarm about that, at least and on average."""
    epsilon: float = Field(0.0, ge=0, le=1)
    """Share that explores from then on until a router is promoted, if more than it was."""


class RetrainSettings(Frozen):
    """When routers learn anew."""

    enabled: Annotated[bool, RESTART] = False
    """Whether `serve` starts a process that does it; `pointsman retrain` works without."""
    estimator: str = DEFAULT_ESTIMATOR
    """What is fitted, as `pointsman train --estimator` takes it."""
    min_new_scores: int = Field(200, ge=1)
    """Scores since the last time before it is worth the trouble."""
    window: int | None = Field(50_000, ge=200)
    """How many of the newest decisions are learned from and judged by; None: all of them."""
    window_days: float | None = Field(None, gt=0)
    """Nothing older is learned from, also of what was collected; None: everything is."""
    when_drifting: bool = True
    """Whether to learn anew when experts' scores leave what was expected of them."""
    look_every_s: float = Field(60.0, gt=0)
    """How often to look whether something is to be done."""
    seed: int = 0
    gate: GateSettings = GateSettings()
    trial: TrialSettings = TrialSettings()
    drift: DriftSettings = DriftSettings()
