"""What a new configuration changes of the one that runs, and what it may not change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from experts.base import Expert
from gateway.local import Endpoints
from gateway.pool import shared
from gateway.settings.cards import CalledSettings
from gateway.settings.compositions import CompositionSettings
from gateway.settings.experts import ExpertSettings
from gateway.settings.faults import Place
from gateway.settings.local import AdapterExpert, PackagedExpert, VllmExpert
from gateway.settings.root import Settings
from gateway.settings.shape import restart_values
from gateway.state import Gateway

Problem = tuple[Place, str]
_LATER = "can't change while the gateway runs; restart it"


def needs_restart(old: Settings, new: Settings, endpoints: Endpoints) -> Iterator[Problem]:
    """Every change that only a restart can make."""
    before, after = restart_values(old), restart_values(new)
    for place in sorted(before.keys() | after.keys(), key=str):
        if before.get(place) != after.get(place):
            yield place, _LATER
    engines = {e.id: _engine(e) for e in old.experts}
    for index, entry in enumerate(new.experts):
        if not isinstance(entry, PackagedExpert | VllmExpert | AdapterExpert):
            continue
        if entry.id not in endpoints:
            yield ("experts", index), "its engine starts with the gateway; restart it"
        elif engines.get(entry.id, _engine(entry)) != _engine(entry):
            yield ("experts", index), f"what its engine is started with {_LATER}"


def unchanged_experts(gateway: Gateway, new: Settings) -> dict[str, Expert]:
    """Experts that serve on as they are, with their connections and what was counted of them."""
    old = gateway.settings
    if shared(old) != shared(new):
        return {}
    before = {entry.id: entry for entry in old.experts}
    pool = gateway.pool.experts
    return {
        e.id: pool[e.id]
        for e in new.experts
        # Compositions are made anew: one of theirs may not be kept.
        if e.id in pool and before.get(e.id) == e and not isinstance(e, CompositionSettings)
    }


def _engine(entry: ExpertSettings) -> Mapping[str, object]:
    """The part of an entry that its engine is started with."""
    if isinstance(entry, PackagedExpert):
        return entry.model_dump(include={"package", "threads", "slots"})
    return entry.model_dump(exclude=set(CalledSettings.model_fields))
