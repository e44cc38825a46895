"""The `ledger` section."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from gateway.settings.base import Frozen, SecretUrl


class LedgerSettings(Frozen):
    """Where the book is and what it keeps."""

    url: SecretUrl = Field("sqlite:///data/ledger.db", repr=False)
    durability: Literal["strict", "relaxed"] = "strict"
    text: Literal["none", "hash", "redacted", "full"] = "full"
    max_pending: int = Field(10_000, ge=1)
    """Rows waiting to be written before new requests have to wait."""
