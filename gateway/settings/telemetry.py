"""The `telemetry` section: what can be seen of requests from outside."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from gateway.settings.base import RESTART, Frozen, Secret, SecretUrl


class TelemetrySettings(Frozen):
    """What is measured, and who gets to see it."""

    key_labels: bool = False
    """Whether names of keys become labels of metrics, for whoever may read `/metrics`."""
    otlp_endpoint: Annotated[SecretUrl | None, RESTART] = Field(
        None, pattern=r"^https?://", repr=False
    )
    """A collector that takes OTLP over HTTP, without `/v1/traces`; the extra `otel` sends."""
    otlp_headers: Annotated[dict[str, Secret], RESTART] = Field(default_factory=dict, repr=False)
    """Sent to the collector, e.g. `{authorization: "env:OTLP_AUTHORIZATION"}`."""
    capture_content: Annotated[bool, RESTART] = False
    """Whether spans show prompts and answers, without secrets, addresses and long numbers."""
