"""The `server` section: where we listen."""

from __future__ import annotations

from pydantic import Field

from gateway.settings.base import Frozen


class ServerSettings(Frozen):
    """Where we listen."""

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    allow_anonymous: bool = False
    """Serve without keys beyond this machine; on the loopback address that is always allowed."""
