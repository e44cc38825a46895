"""Which devices each local model's server gets. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from types import MappingProxyType

from experts.errors import ExpertConfigError

_MOST_STEPS = 200_000
_SLACK_GB = 1e-6


@dataclass(frozen=True, slots=True)
class Device:
    """One accelerator of this machine.

    Attributes:
        device_id: Its number or UUID, as CUDA_VISIBLE_DEVICES takes them.
        memory_gb: What it holds, > 0.
        usd_per_hour: What an hour of it costs, >= 0; None means unknown.
    """

    device_id: str
    memory_gb: float
    usd_per_hour: float | None = None


@dataclass(frozen=True, slots=True)
class Demand:
    """What a server takes while it is awake.

    Attributes:
        name: Whose it is.
        memory_gb: Over all of its devices together, > 0.
        devices: Over how many it is divided (tensor parallelism), >= 1.
    """

    name: str
    memory_gb: float
    devices: int = 1

    @property
    def each_gb(self) -> float:
        """What it takes of each of its devices."""
        return self.memory_gb / self.devices


Placement = Mapping[str, tuple[Device, ...]]
"""Devices by the name of what was placed."""


def place(
    demands: Sequence[Demand], devices: Sequence[Device], kept: Placement = MappingProxyType({})
) -> Placement:
    """A place for everything at once: exact, by a search that begins with the largest.

    Each goes where the least room is left (best fit decreasing), and where that leads nowhere, to
    the next. The devices of one demand are equally large, since its server takes the same share of
    each. Devices that are alike are tried once.

    Args:
        demands: What is to be placed; names are unique.
        devices: Where; ids are unique.
        kept: Where some of the demands are already, and stay.

    Raises:
        ExpertConfigError: Something finds no room; it is named, with what there is.
    """
    for demand in demands:
        if not any(_seats(demand, {one: one.memory_gb for one in devices})):
            raise ExpertConfigError(f"{_said(demand)}; there is {_inventory(devices)}")
    room = {one: one.memory_gb for one in devices}
    for demand in demands:
        for one in kept.get(demand.name, ()):
            room[one] -= demand.each_gb
    new = [demand for demand in demands if demand.name not in kept]
    order = sorted(new, key=lambda demand: (-demand.each_gb, -demand.devices, demand.name))
    search = _Search(order)
    found = search.rest(0, room)
    if found is None:
        why = "do not fit" if search.steps < _MOST_STEPS else "were not found room for"
        last = order[search.deepest]
        raise ExpertConfigError(
            f"{', '.join(demand.name for demand in demands)} {why} together on "
            f"{_inventory(devices)}: {_said(last)}, and finds no room beside "
            f"{'those that run' if kept else 'the larger ones'}"
        )
    return {**kept, **found}


class _Search:
    """Depth first, until all are placed or a bound on steps is reached."""

    def __init__(self, order: Sequence[Demand]) -> None:
        self._order = order
        self.steps = 0
        self.deepest = 0

    def rest(
        self, index: int, room: Mapping[Device, float]
    ) -> dict[str, tuple[Device, ...]] | None:
        """Places for the demands from `index` on, or None."""
        if index == len(self._order):
            return {}
        self.deepest = max(self.deepest, index)
        demand = self._order[index]
        for seats in _seats(demand, room):
            self.steps += 1
            if self.steps >= _MOST_STEPS:
                return None
            left = {**room, **{one: room[one] - demand.each_gb for one in seats}}
            found = self.rest(index + 1, left)
            if found is not None:
                return {demand.name: seats, **found}
        return None


def _seats(demand: Demand, room: Mapping[Device, float]) -> Iterator[tuple[Device, ...]]:
    """Devices that hold it, the fullest first; of those that are alike, one choice."""
    open_ = [one for one in room if room[one] >= demand.each_gb - _SLACK_GB]
    open_.sort(key=lambda one: (room[one], one.memory_gb))
    tried = set()
    for seats in combinations(open_, demand.devices):
        kind = tuple((room[one], one.memory_gb) for one in seats)
        if kind not in tried and len({one.memory_gb for one in seats}) == 1:
            tried.add(kind)
            yield seats


def _said(demand: Demand) -> str:
    if demand.devices == 1:
        return f"{demand.name} takes {demand.memory_gb:g} GB"
    return (
        f"{demand.name} takes {demand.each_gb:g} GB of each of {demand.devices} devices of one size"
    )


def _inventory(devices: Sequence[Device]) -> str:
    if not devices:
        return "no device"
    return ", ".join(f"device {one.device_id} of {one.memory_gb:g} GB" for one in devices)
