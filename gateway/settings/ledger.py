"""The `ledger` section."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from gateway.settings.base import RESTART, Frozen, SecretUrl


class LedgerSettings(Frozen):
    """Where the book is and what it keeps."""

    url: Annotated[SecretUrl, RESTART] = Field("sqlite:///data/ledger.db", repr=False)
    durability: Annotated[Literal["strict", "relaxed"], RESTART] = "strict"
    text: Literal["none", "hash", "redacted", "full"] = "full"
    max_pending: Annotated[int, RESTART] = Field(10_000, ge=1)
    """Rows waiting to be written before new requests have to wait."""
