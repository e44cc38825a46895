"""The `responses` section: what is kept for `previous_response_id`."""

from __future__ import annotations

from pydantic import Field

from gateway.settings.base import Frozen


class ResponsesSettings(Frozen):
    """What the Responses API remembers, apart from the ledger and really deleted."""

    store: bool = True
    """Whether anything is kept at all."""
    url: str | None = None
    """Where; `responses.db` in `data_dir`, or the ledger's database if that is PostgreSQL."""
    retention_days: float = Field(30, gt=0)
    max_rows: int = Field(100_000, ge=1)
    """Responses kept; the oldest go first."""
