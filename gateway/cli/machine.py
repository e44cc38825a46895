"""The price of local experts' tokens, from the ledger and the hours of their machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from eval.fleet.machine import machine_prices
from gateway.errors import ConfigError
from gateway.ledger.database import opened
from gateway.ledger.machine_time import calls_of
from gateway.ledger.reprice import Which, reprice
from gateway.settings.devices import placed_on
from gateway.settings.local import AdapterExpert, PackagedExpert, VllmExpert
from gateway.settings.root import Settings

_PER_HOUR = 3600.0


def priced(
    url: str,
    experts: Sequence[str],
    usd_per_hour: float,
    span: tuple[float, float],
    *,
    apply: bool,
) -> dict[str, Any]:
    """What the tokens cost, JSON-able; with `apply` the calls of that time are booked at it.

    Args:
        url: Of the ledger.
        experts: The ids of all that the machine serves.
        usd_per_hour: What an hour of it costs.
        span: From when to when the machine was paid for, seconds since 1970.
        apply: Whether to add corrections to the ledger.

    Raises:
        ConfigError: The span is empty.
        ComparisonError: There is nothing to go by, or more than the span holds.
    """
    since, until = span
    if not since < until:
        raise ConfigError("--until must be after --since")
    hours = (until - since) / _PER_HOUR
    with opened(url) as engine:
        which = {expert: Which(expert, since, until) for expert in experts}
        calls = {expert: calls_of(engine, each) for expert, each in which.items()}
        found = machine_prices(calls, usd_per_hour, hours)
        told: dict[str, Any] = {expert: asdict(each) for expert, each in found.items()}
        if apply:
            for expert, each in which.items():
                repriced = reprice(engine, each, found[expert].whole)
                told[expert]["corrected"] = repriced.corrected
    return {"hours": hours, "usd": usd_per_hour * hours, "experts": told}


def declared_usd_per_hour(settings: Settings, experts: Sequence[str]) -> float:
    """What an hour of what these experts have of the machine costs by the configuration.

    A packaged model says it itself; a vLLM server has of each of its devices the share of the
    price that it has of the memory.

    Raises:
        ConfigError: It does not say so of one of them.
    """
    engines = {
        entry.engine if isinstance(entry, AdapterExpert) else entry.id
        for entry in settings.experts
        if entry.id in experts
    }
    unknown = set(experts) - {entry.id for entry in settings.experts}
    found = {name: _declared(settings, name) for name in sorted(engines | unknown)}
    for name, usd in found.items():
        if usd is None:
            raise ConfigError(
                f"the configuration does not say what an hour of {name}'s machine costs; "
                "give --usd-per-hour"
            )
    return sum(usd for usd in found.values() if usd is not None)


def _declared(settings: Settings, engine: str) -> float | None:
    entry = next((each for each in settings.experts if each.id == engine), None)
    if isinstance(entry, PackagedExpert):
        return entry.usd_per_hour
    if not isinstance(entry, VllmExpert) or entry.memory_gb is None:
        return None
    placed = placed_on(settings.devices, settings.experts, settings.residency)
    devices = placed.get(engine, ())
    each_gb = entry.memory_gb / entry.tensor_parallel
    parts = [
        None if one.usd_per_hour is None else one.usd_per_hour * each_gb / one.memory_gb
        for one in devices
    ]
    return None if not parts or None in parts else sum(part for part in parts if part is not None)
