"""Which devices each local model's server gets. No I/O."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from types import MappingProxyType

from experts.errors import ExpertConfigError

_MOST_STEPS = 200_000
_SLACK_GB = 1e-10


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
Room = Mapping[Device, float]
"""Device to GB of it."""


@dataclass(frozen=True, slots=True)
class Turns:
    """Servers of which those are awake at a time that find room.

    Attributes:
        demands: What each takes while it is awake; names are unique.
        total_gb: What they take together at most, of all devices; infinite: what there is.
    """

    demands: Sequence[Demand] = ()
    total_gb: float = math.inf

    def find(self, room: Room) -> bool:
        """Whether each finds room while the others sleep, and all together what they may take."""
        open_ = [set(_open_to(demand, room)) for demand in self.demands]
        if not all(open_) or not open_ or math.isinf(self.total_gb):
            return all(open_)
        return sum(room[one] for one in set.union(*open_)) >= self.total_gb - _SLACK_GB

    def spread(self, room: Room) -> Placement:
        """Devices for each, so that few of them have to make room for one another.

        The largest chooses first, and each takes those where all that share them take the least,
        by the room that there is.
        """
        load = dict.fromkeys(room, 0.0)
        found = {}
        for demand in sorted(self.demands, key=_largest_first):
            open_ = _open_to(demand, room)
            share = {one: (load[one] + demand.each_gb) / room[one] for one in open_}
            seats = min(
                _of_one_size(demand, open_),
                key=lambda group: sorted((share[one] for one in group), reverse=True),
            )
            load |= {one: load[one] + demand.each_gb for one in seats}
            found[demand.name] = seats
        return found


_NO_TURNS = Turns()


def place(
    demands: Sequence[Demand],
    devices: Sequence[Device],
    kept: Placement = MappingProxyType({}),
    taken: Room = MappingProxyType({}),
    turns: Turns = _NO_TURNS,
) -> Placement:
    """A place for everything at once: exact, by a search that begins with the largest.

    Each goes where the least room is left (best fit decreasing), and where that leads nowhere, to
    the next. The devices of one demand are equally large, since its server takes the same share of
    each. Devices that are alike are tried once.

    Args:
        demands: What is to be placed; names are unique.
        devices: Where; ids are unique.
        kept: Where some of the demands are already, and stay.
        taken: What others have of devices.
        turns: Those that are to find room beside the demands.

    Raises:
        ExpertConfigError: Something finds no room; it is named, with what there is.
    """
    for demand in (*demands, *turns.demands):
        if not any(_seats(demand, {one: one.memory_gb for one in devices})):
            raise ExpertConfigError(f"{_said(demand)}; there is {_inventory(devices)}")
    room = room_beside(demands, devices, kept, taken)
    new = [demand for demand in demands if demand.name not in kept]
    order = sorted(new, key=_largest_first)
    search = _Search(order, turns)
    found = search.rest(0, room)
    if found is not None:
        return {**kept, **found}
    if turns.demands and _Search(order, _NO_TURNS).rest(0, room) is not None:
        limited = turns.total_gb < math.inf
        raise ExpertConfigError(
            f"{_names(turns.demands)} take turns, and find no room"
            f"{f' for {turns.total_gb:g} GB together' if limited else ''}"
            f"{f' beside {_names(demands)}' if demands else ''} on {_inventory(devices)}"
        )
    why = "do not fit" if search.steps < _MOST_STEPS else "were not found room for"
    raise ExpertConfigError(
        f"{_names(demands)} {why} together on {_inventory(devices)}: "
        f"{_said(order[search.deepest])}, and finds no room beside "
        f"{'those that run' if kept else 'the larger ones'}"
    )


def room_beside(
    demands: Iterable[Demand],
    devices: Iterable[Device],
    placed: Placement,
    taken: Room = MappingProxyType({}),
) -> dict[Device, float]:
    """What is left of each device by those of the demands that are placed, and by others."""
    room = {one: one.memory_gb - taken.get(one, 0.0) for one in devices}
    for demand in demands:
        for one in placed.get(demand.name, ()):
            room[one] -= demand.each_gb
    return room


class _Search:
    """Depth first, until all are placed or a bound on steps is reached."""

    def __init__(self, order: Sequence[Demand], turns: Turns) -> None:
        self._order = order
        self._turns = turns
        self.steps = 0
        self.deepest = 0

    def rest(self, index: int, room: Room) -> dict[str, tuple[Device, ...]] | None:
        """Places for the demands from `index` on, or None."""
        if not self._turns.find(room):
            return None
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


def _seats(demand: Demand, room: Room) -> Iterator[tuple[Device, ...]]:
    """Devices that hold it, the fullest first; of those that are alike, one choice."""
    open_ = sorted(_open_to(demand, room), key=lambda one: (room[one], one.memory_gb))
    tried = set()
    for seats in _of_one_size(demand, open_):
        kind = tuple((room[one], one.memory_gb) for one in seats)
        if kind not in tried:
            tried.add(kind)
            yield seats


def _open_to(demand: Demand, room: Room) -> list[Device]:
    """Devices that it can have, together with others of their size."""
    open_ = [one for one in room if room[one] >= demand.each_gb - _SLACK_GB]
    count = Counter(one.memory_gb for one in open_)
    return [one for one in open_ if count[one.memory_gb] >= demand.devices]


def _of_one_size(demand: Demand, devices: Sequence[Device]) -> Iterator[tuple[Device, ...]]:
    """As many of them as it is divided over, in every way."""
    for seats in combinations(devices, demand.devices):
        if len({one.memory_gb for one in seats}) == 1:
            yield seats


def _largest_first(demand: Demand) -> tuple[float, int, str]:
    return (-demand.each_gb, -demand.devices, demand.name)


def _names(demands: Sequence[Demand]) -> str:
    return ", ".join(demand.name for demand in demands)


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
