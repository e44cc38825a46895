"""The `responses` section: what is kept for `previous_response_id`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from gateway.settings.base import RESTART, Frozen, SecretUrl


class ResponsesSettings(Frozen):
    """What the Responses API remembers, apart from the ledger and really deleted."""

    store: Annotated[bool, RESTART] = True
    """Whether anything is kept at all."""
    url: Annotated[SecretUrl | None, RESTART] = Field(None, repr=False)
    """Where; `responses.db` in `data_dir`, or the ledger's database if that is PostgreSQL."""
    retention_days: Annotated[float, RESTART] = Field(30, gt=0)
    max_rows: Annotated[int, RESTART] = Field(100_000, ge=1)
    """Responses kept; the oldest go first."""
