"""The `logging` section: what the process says of its work."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from gateway.settings.base import RESTART, Frozen


class LoggingSettings(Frozen):
    """Lines on standard error, with secrets taken out."""

    format: Annotated[Literal["json", "text"], RESTART] = "json"
    level: Annotated[Literal["debug", "info", "warning", "error"], RESTART] = "info"
    access_per_s: Annotated[int, RESTART] = Field(1_000, ge=0)
    """Access lines per second at most, one per request; the others are counted. 0 writes none."""
    max_queue: Annotated[int, RESTART] = Field(10_000, ge=1)
    """Lines waiting for a slow reader before more are dropped and counted."""
