"""The price of local experts' tokens, from the ledger and the hours of their machine."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from sqlalchemy import Engine

from eval.errors import ComparisonError
from eval.fleet.machine import machine_prices
from experts.cards import NANO_PER_USD
from experts.engines.nvml import read_devices
from gateway.errors import ConfigError
from gateway.ids import now
from gateway.ledger.database import existing
from gateway.ledger.machine_time import calls_of
from gateway.ledger.reprice import Which, reprice
from gateway.settings.devices import demands_of, placed_on
from gateway.settings.local import AdapterExpert, PackagedExpert
from gateway.settings.root import Settings

_log = logging.getLogger(__name__)
_PER_HOUR = 3600.0
_J_PER_KWH = 3.6e6
# Calls that began before it have ended and are booked.
_LAG_S = 900.0
# A shorter run tells more of how it was started than of what an expert costs.
_LEAST_S = 3600.0


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
    with existing(url) as engine:
        which = {expert: Which(expert, since, until) for expert in experts}
        calls = {expert: calls_of(engine, each) for expert, each in which.items()}
        found = machine_prices(calls, usd_per_hour, hours)
        told: dict[str, Any] = {expert: asdict(each) for expert, each in found.items()}
        if apply:
            for expert, each in which.items():
                repriced = reprice(engine, each, found[expert].whole)
                told[expert]["corrected"] = repriced.corrected
    return {"hours": hours, "usd": usd_per_hour * hours, "experts": told}


@dataclass(frozen=True, slots=True)
class Machine:
    """Experts that are paid for together.

    Attributes:
        experts: Engines and their adapters.
        usd_per_hour: What an hour of it costs by the configuration, energy apart.
        said: Whether the configuration says so, or it is only assumed.
        devices: Those it has, each with the share of its memory.
        usd_per_kwh: What energy costs, by those of them that are metered.
    """

    experts: tuple[str, ...]
    usd_per_hour: float
    said: bool = True
    devices: Mapping[str, float] = field(default_factory=dict)
    usd_per_kwh: Mapping[str, float] = field(default_factory=dict)

    def energy_kwh(self, used_j: Mapping[str, float]) -> dict[str, float]:
        """Its part of what metered devices used, by device; of those that tell it."""
        return {
            name: used_j[name] / _J_PER_KWH * self.devices[name]
            for name in self.usd_per_kwh
            if name in used_j
        }


def machines(settings: Settings) -> tuple[Machine, ...]:
    """What is paid for by the configuration: an engine with its adapters, or all that take turns.

    A packaged model says itself what an hour costs. Servers have of each of their devices the share
    of its price that they have of its memory; those that take turns have it together. Engines whose
    price is not known are left out.
    """
    served: dict[str, list[str]] = {}
    found = []
    for entry in settings.experts:
        owner = entry.engine if isinstance(entry, AdapterExpert) else entry.id
        served.setdefault(owner, []).append(entry.id)
    for entry in settings.experts:
        if isinstance(entry, PackagedExpert):
            said = "usd_per_hour" in entry.model_fields_set
            found.append(Machine(tuple(served[entry.id]), entry.usd_per_hour, said))
    for names, shares in _on_devices(settings):
        together = tuple(each for name in names for each in served[name])
        if machine := _of_devices(settings, together, shares):
            found.append(machine)
    return tuple(found)


def declared_usd_per_hour(settings: Settings, experts: Sequence[str]) -> float:
    """What an hour of the machines of these experts costs by the configuration, see `machines`.

    Raises:
        ConfigError: It does not say so of one of them.
    """
    owners = {expert: machine for machine in machines(settings) for expert in machine.experts}
    for name in experts:
        if name not in owners:
            raise ConfigError(
                f"the configuration does not say what an hour of {name}'s machine costs; "
                "give --usd-per-hour"
            )
    named = {owners[name].experts: owners[name] for name in experts}
    return sum(machine.usd_per_hour for machine in named.values())


def _on_devices(settings: Settings) -> list[tuple[list[str], dict[str, float]]]:
    """Engines that share devices, with what they have of the memory of each, in [0, 1]."""
    placed = placed_on(settings.devices, settings.experts, settings.residency)
    turns = [name for name in settings.residency.experts if name in placed.seats]
    found = []
    always = placed.seats.keys() - turns
    for name, demand in demands_of(settings.experts).items():
        if name in always:
            seats = placed.seats[name]
            found.append(([name], {one.device_id: demand.each_gb / one.memory_gb for one in seats}))
    if turns:
        # They may take less of all devices together than there is room on each.
        used = min(1.0, settings.residency.total_gb / sum(placed.turns.values()))
        shares = {one.device_id: used * gb / one.memory_gb for one, gb in placed.turns.items()}
        found.append((turns, shares))
    return found


def _of_devices(
    settings: Settings, experts: tuple[str, ...], shares: Mapping[str, float]
) -> Machine | None:
    """The machine of experts that have these shares of devices, if all of these have a price."""
    devices = [one for one in settings.devices if one.id in shares]
    if any(one.usd_per_hour is None and one.usd_per_kwh is None for one in devices):
        return None
    return Machine(
        experts,
        sum((one.usd_per_hour or 0.0) * shares[one.id] for one in devices),
        devices=shares,
        usd_per_kwh={one.id: one.usd_per_kwh for one in devices if one.usd_per_kwh is not None},
    )


class Renewal:
    """Books calls of our own experts at what their machines cost, whenever they served for a while.

    Each renewal prices the time since the one before, the first that since this was made: hours in
    which no gateway ran are nobody's. Nobody pays for a machine as long as nobody asked it.

    Args:
        settings: What machines cost, and how often to price.
        clock: Seconds since 1970.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = now) -> None:
        hours = settings.ledger.price_machines_hours
        self._machines = [] if hours is None else [one for one in machines(settings) if one.said]
        self._every_s = math.inf if hours is None else hours * _PER_HOUR
        self._clock = clock
        self._since = clock()
        self._energy_j = self._meters()
        metered = {name for machine in self._machines for name in machine.usd_per_kwh}
        if unread := sorted(metered - self._energy_j.keys()):
            _log.warning(
                "`usd_per_kwh` of device %s has no effect: no NVIDIA driver tells its energy",
                ", ".join(unread),
            )

    def due(self, *, ending: bool = False) -> bool:
        """Whether anything is to be priced, now or because no more calls will come."""
        served_s = self._until(ending=ending) - self._since
        return bool(self._machines) and served_s >= (_LEAST_S if ending else self._every_s)

    def __call__(self, engine: Engine, *, ending: bool = False) -> None:
        """Add corrections to the ledger, if that is due."""
        if not self.due(ending=ending):
            return
        until = self._until(ending=ending)
        meters_j = self._meters()
        used_j = {
            name: energy_j - self._energy_j[name]
            for name, energy_j in meters_j.items()
            # A driver that was loaded anew begins at 0.
            if energy_j >= self._energy_j.get(name, math.inf)
        }
        for machine in self._machines:
            _book(engine, machine, (self._since, until), machine.energy_kwh(used_j))
        self._since, self._energy_j = until, meters_j

    def _until(self, *, ending: bool) -> float:
        return self._clock() - (0.0 if ending else _LAG_S)

    def _meters(self) -> dict[str, float]:
        """What metered devices have used since their driver was loaded, as far as it tells."""
        ids = sorted({name for machine in self._machines for name in machine.usd_per_kwh})
        found = (read_devices(ids) if ids else None) or {}
        return {
            name: reading.energy_j
            for name, reading in found.items()
            if reading is not None and reading.energy_j is not None
        }


def _book(
    engine: Engine, machine: Machine, span: tuple[float, float], kwh: Mapping[str, float]
) -> None:
    """Correct the calls of that time to what the machine and its energy cost."""
    which = {expert: Which(expert, *span) for expert in machine.experts}
    calls = {expert: calls_of(engine, each) for expert, each in which.items()}
    asked = {
        expert: each
        for expert, each in calls.items()
        if (each.input_N.sum() + each.output_N.sum()) > 0
    }
    if not asked:
        return
    hours = (span[1] - span[0]) / _PER_HOUR
    energy_usd = sum(machine.usd_per_kwh[name] * each for name, each in kwh.items())
    try:
        found = machine_prices(asked, machine.usd_per_hour + energy_usd / hours, hours)
    except ComparisonError as error:
        _log.warning("calls of %s keep their price: %s", ", ".join(machine.experts), error)
        return
    for expert, price in found.items():
        whole = price.whole
        if kwh:
            energy = f"{sum(kwh.values()):.4g} kWh for ${energy_usd:.4g} included"
            whole = replace(whole, source=f"{whole.source}, {energy}")
        booked = reprice(engine, which[expert], whole)
        usd = booked.new_nanousd / NANO_PER_USD
        _log.info("%s: %d calls are booked at $%.4g: %s", expert, price.calls, usd, whole.source)
