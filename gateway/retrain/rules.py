"""Settings to the rules that `eval` knows."""

from __future__ import annotations

from eval.promotion.canary import CanaryRules
from eval.promotion.gate import GateRules
from gateway.settings.retrain import GateSettings, TrialSettings


def gate_rules(settings: GateSettings) -> GateRules:
    """What the log must say of a candidate."""
    return GateRules(
        level=settings.level,
        most_quality_loss=settings.most_quality_loss,
        most_ece=settings.most_ece,
        most_slice_loss=settings.most_slice_loss,
        fewest_in_slice=settings.fewest_in_slice,
        most_decide_us=1000 * settings.most_decide_ms,
    )


def canary_rules(settings: TrialSettings) -> CanaryRules:
    """When a trial has shown enough."""
    return CanaryRules(
        share=settings.share,
        most_loss=settings.most_loss,
        most_scored=settings.most_scored,
        most_failures=settings.most_failures,
    )
