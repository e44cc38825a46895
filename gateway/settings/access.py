"""The `keys` section: who may call."""

from __future__ import annotations

from pydantic import Field

from gateway.settings.base import Frozen, Secret


class KeySettings(Frozen):
    """One key: `key` is `env:NAME`, `sha256:<hex digest>` or the key itself."""

    name: str = Field(min_length=1)
    key: Secret = Field(min_length=8, repr=False)
    admin: bool = False
