"""What a new configuration changes of the one that runs, and what it may not change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from experts.base import Expert
from gateway.engines.specs import adapters_of
from gateway.pool.pool import shared
from gateway.settings.cards import CalledSettings
from gateway.settings.composed import CompositionSettings
from gateway.settings.experts import ExpertSettings
from gateway.settings.faults import Place
from gateway.settings.local import AdapterExpert, PackagedExpert, ServedHere, VllmExpert
from gateway.settings.root import Settings
from gateway.settings.shape import restart_values
from gateway.state import Gateway

Problem = tuple[Place, str]
_LATER = "can't change while the gateway runs; restart it"


def needs_restart(old: Settings, new: Settings) -> Iterator[Problem]:
    """Every change that only a restart can make.

    Args:
        old: What is in force.
        new: What is to be.
    """
    before, after = restart_values(old), restart_values(new)
    for place in sorted(before.keys() | after.keys(), key=str):
        if before.get(place) != after.get(place):
            yield place, _LATER
    yield from _engines(old, new)


def _engines(old: Settings, new: Settings) -> Iterator[Problem]:
    """What only a restart can change of the experts on engines of ours."""
    known = {e.id: e for e in old.experts if isinstance(e, ServedHere)}
    for index, entry in enumerate(new.experts):
        if not isinstance(entry, ServedHere):
            continue
        before = known.get(entry.id)
        if before is not None and _engine(before) != _engine(entry):
            yield ("experts", index), f"what its engine is started with {_LATER}"
        elif before is None and isinstance(entry, AdapterExpert):
            home = known.get(entry.engine)
            if isinstance(home, VllmExpert) and not _takes_adapters(home, old):
                yield (
                    ("experts", index),
                    f"the server of {home.id} was started without adapters and without "
                    "`max_loras`, so it takes none; restart the gateway",
                )


def _takes_adapters(entry: VllmExpert, settings: Settings) -> bool:
    """Whether its server was started so that adapters can be loaded."""
    return bool(entry.base_url or entry.max_loras or adapters_of(entry, settings))


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
    """The part of an entry that its engine is started with; adapters come and go."""
    if isinstance(entry, PackagedExpert):
        return entry.model_dump(include={"package", "threads", "slots"})
    return entry.model_dump(exclude={*CalledSettings.model_fields, "adapters"})
