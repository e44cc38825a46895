"""The `devices` section: the accelerators of this machine, and who gets which."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from types import MappingProxyType

from pydantic import Field

from experts.errors import ExpertConfigError
from experts.placement import Demand, Device, Placement, place
from gateway.settings.base import Frozen
from gateway.settings.faults import Place
from gateway.settings.local import VllmExpert
from gateway.settings.residency import ResidencySettings

_TURNS = "those that take turns"


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


def placed_on(
    devices: Iterable[DeviceSettings],
    experts: Iterable[object],
    residency: ResidencySettings,
    kept: Placement = MappingProxyType({}),
) -> Placement:
    """The devices of each server that the gateway runs on accelerators, by its expert.

    Empty where no devices are declared: servers then see all that there are. Those that take turns
    in memory are placed as one, with all that they may hold together, so that any of them finds
    room whoever else is awake.

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
        return {}
    sized = {
        each.id: Demand(
            each.id, each.memory_gb * each.replicas, each.tensor_parallel * each.replicas
        )
        for each in experts
        if isinstance(each, VllmExpert) and each.placeable and each.memory_gb is not None
    }
    turns = {name: demand for name, demand in sized.items() if name in residency.experts}
    demands = [demand for name, demand in sized.items() if name not in turns]
    if turns:
        most = max(demand.devices for demand in turns.values())
        demands.append(Demand(_TURNS, residency.memory_gb, most))
    seats = {name: places for name, places in kept.items() if name not in turns}
    if running := [kept[name] for name in turns if name in kept]:
        seats[_TURNS] = max(running, key=len)
    found = dict(place(demands, inventory, seats))
    together = found.pop(_TURNS, ())
    return {**found, **{name: together[: demand.devices] for name, demand in turns.items()}}


def turns_memory(
    devices: Sequence[object], experts: Iterable[object], residency: ResidencySettings
) -> dict[str, float]:
    """What each of those that take turns counts for in `residency.memory_gb`.

    On declared devices all of them begin with the same one, so that there is where room is scarce.
    A server of fewer devices than the widest takes more of that one than its total would tell, and
    counts as if it took as much of each.
    """
    wide = {
        each.id: each.tensor_parallel * each.replicas
        for each in experts
        if devices and isinstance(each, VllmExpert) and each.placeable
    }
    most = max((wide.get(name, 1) for name in residency.experts), default=1)
    return {name: gb * most / wide.get(name, most) for name, gb in residency.memory.items()}


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
    for name, gb in turns_memory(devices, experts, residency).items():
        if gb > residency.memory_gb:
            yield (
                ("residency", "experts", name, "memory_gb"),
                f"is more than {name}'s devices have of `residency.memory_gb`, which is shared out "
                "over as many as the widest of those that take turns has",
            )
    try:
        placed_on(devices, experts, residency)
    except ExpertConfigError as error:
        yield ("devices",), str(error)
