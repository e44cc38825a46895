"""The `devices` section: the accelerators of this machine, and who gets which."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from pydantic import Field

from experts.engines.placement import Demand, Device, Placement, Room, Turns, place, room_beside
from experts.errors import ExpertConfigError
from gateway.settings.base import Frozen
from gateway.settings.faults import Place
from gateway.settings.local import VllmExpert
from gateway.settings.residency import ResidencySettings


class DeviceSettings(Frozen):
    """One accelerator."""

    id: str = Field(pattern=r"^[A-Za-z0-9-]+$")
    """Its number or UUID, as `nvidia-smi -L` has it."""
    memory_gb: float = Field(gt=0)
    usd_per_hour: float | None = Field(None, ge=0)
    """What an hour of it costs."""
    usd_per_kwh: float | None = Field(None, ge=0)
    """What its energy costs on top, if that is not in `usd_per_hour` already."""

    def device(self) -> Device:
        return Device(self.id, self.memory_gb, self.usd_per_hour)


@dataclass(frozen=True, slots=True)
class Places:
    """Who has which of the devices.

    Attributes:
        seats: The devices of each server that the gateway runs on accelerators, by its expert.
        turns: What those that take turns in memory share of each of theirs, in GB.
    """

    seats: Placement = field(default_factory=dict)
    turns: Room = field(default_factory=dict)


NOWHERE = Places()


def placed_on(
    devices: Iterable[DeviceSettings],
    experts: Iterable[object],
    residency: ResidencySettings,
    kept: Places = NOWHERE,
) -> Places:
    """The devices of each server.

    None where no devices are declared: servers then see all that there are. Those that take turns
    get what the others leave, so that each finds room while its likes on its devices sleep.

    Args:
        devices: What there is.
        experts: All entries; those of servers count.
        residency: Who takes turns.
        kept: Where some of the servers run already, and stay.

    Raises:
        ExpertConfigError: They don't fit; the message names what does not.
    """
    inventory = [one.device() for one in devices]
    if not inventory:
        return NOWHERE
    sized = demands_of(experts)
    always = [demand for name, demand in sized.items() if name not in residency.experts]
    if kept.turns:
        return Places(place(always, inventory, kept.seats, kept.turns), kept.turns)
    some = [demand for name, demand in sized.items() if name in residency.experts]
    turns = Turns(some, residency.total_gb)
    seats = place(always, inventory, kept.seats, turns=turns)
    left = room_beside(always, inventory, seats)
    spread = turns.spread(left)
    shared = {
        one: min(left[one], residency.total_gb) for places in spread.values() for one in places
    }
    return Places({**seats, **spread}, shared)


def demands_of(experts: Iterable[object]) -> dict[str, Demand]:
    """Expert to what its server takes of devices, of those that are placed."""
    return {
        each.id: Demand(
            each.id, each.memory_gb * each.replicas, each.tensor_parallel * each.replicas
        )
        for each in experts
        if isinstance(each, VllmExpert) and each.placeable and each.memory_gb is not None
    }


def turns_memory(experts: Iterable[object], residency: ResidencySettings) -> dict[str, float]:
    """What each of those that take turns takes while awake, in GB."""
    sized = demands_of(experts)
    return {
        name: sized[name].memory_gb if name in sized else each.memory_gb or 0.0
        for name, each in residency.experts.items()
    }


def unplaceable(
    devices: Sequence[DeviceSettings], experts: Sequence[object], residency: ResidencySettings
) -> Iterator[tuple[Place, str]]:
    """What keeps the servers from being placed, with where it is said."""
    ids = [one.id for one in devices]
    for index, name in enumerate(ids):
        if name in ids[:index]:
            yield ("devices", index, "id"), f"{name!r} is declared twice"
    for index, each in enumerate(experts):
        if not isinstance(each, VllmExpert):
            continue
        if devices and each.placeable and each.memory_gb is None:
            yield ("experts", index, "memory_gb"), "is needed, since `devices` are declared"
        if not devices and each.memory_gb is not None:
            yield ("experts", index, "memory_gb"), "means nothing without `devices`"
    yield from _misfits(experts, residency)
    try:
        placed_on(devices, experts, residency)
    except ExpertConfigError as error:
        yield ("devices",), str(error)


def _misfits(
    experts: Sequence[object], residency: ResidencySettings
) -> Iterator[tuple[Place, str]]:
    """What is amiss with what those that take turns take."""
    sized = demands_of(experts)
    for name, each in residency.experts.items():
        place = ("residency", "experts", name, "memory_gb")
        if name not in sized and each.memory_gb is None:
            yield place, f"is needed, since {name} runs on none of `devices`"
        elif name not in sized and residency.memory_gb is None:
            said = f"is needed, since {name} takes turns and runs on none of `devices`"
            yield ("residency", "memory_gb"), said
        elif name in sized and each.memory_gb not in (None, sized[name].memory_gb):
            said = f"is not what {name}'s server takes of `devices`, {sized[name].memory_gb:g}"
            yield place, f"{said}; leave it out"
    for name, gb in turns_memory(experts, residency).items():
        if gb > residency.total_gb:
            yield (
                ("residency", "experts", name, "memory_gb"),
                f"{name} takes {gb:g} GB and never fits into `residency.memory_gb`, "
                f"which is {residency.total_gb:g}",
            )
