"""The price of a local expert's tokens, from the ledger and the hours of its machine."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from eval.fleet.machine import machine_price
from gateway.errors import ConfigError
from gateway.ledger.database import opened
from gateway.ledger.machine_time import calls_of
from gateway.ledger.reprice import Which, reprice

_PER_HOUR = 3600.0


def priced(
    url: str, expert: str, usd_per_hour: float, span: tuple[float, float], *, apply: bool
) -> dict[str, Any]:
    """What the tokens cost, JSON-able; with `apply` the calls of that time are booked at it.

    Args:
        url: Of the ledger.
        expert: Its id.
        usd_per_hour: What an hour of its machine costs.
        span: From when to when the machine was paid for, seconds since 1970.
        apply: Whether to add corrections to the ledger.

    Raises:
        ConfigError: The span is empty.
        ComparisonError: There is nothing to go by, or more than the span holds.
    """
    since, until = span
    if not since < until:
        raise ConfigError("--until must be after --since")
    with opened(url) as engine:
        calls = calls_of(engine, expert, since, until)
        found = machine_price(calls, usd_per_hour, (until - since) / _PER_HOUR)
        told = asdict(found)
        if apply:
            which = Which(expert, since, until)
            told["corrected"] = reprice(engine, which, found.whole).corrected
    return told
