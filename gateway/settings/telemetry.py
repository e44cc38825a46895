"""The `telemetry` section: what can be seen of requests from outside."""

from __future__ import annotations

from gateway.settings.base import Frozen


class TelemetrySettings(Frozen):
    """What is measured, and who gets to see it."""

    key_labels: bool = False
    """Whether names of keys become labels of metrics."""
