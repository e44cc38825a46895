"""The `shadow` section: who else is asked what an expert has answered, to see how they compare."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from gateway.settings.access import MOST_USD
from gateway.settings.base import Frozen


class ShadowSettings(Frozen):
    """Shadow calls: after an answer was sent, other eligible experts get the same request."""

    share: float = Field(0.0, ge=0, le=1)
    """Of the requests that a router decided, and that somebody can grade."""
    budget_usd: float = Field(1.0, gt=0, le=MOST_USD)
    """What shadow calls may cost, apart from all other budgets."""
    per: Literal["hour", "day", "week", "month"] = "day"
    """How long that is for, by the calendar in UTC."""
    experts: tuple[str, ...] = ()
    """Who may be asked; none named: everybody who could have served the request."""
    at_once: int = Field(2, ge=1)
    """Shadow calls of a process that run at the same time."""
    most_waiting: int = Field(100, ge=1)
    """Shadow calls that wait or run; while there are as many, no request is sampled."""
