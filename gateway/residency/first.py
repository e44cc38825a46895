"""How the engines begin: who is awake at first, and who looks after them from then on."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor

from experts.engines.supervisor import Supervisor
from experts.residency.planner import Footprint, ResidencyPlanner
from experts.residency.steward import Steward
from gateway.errors import LedgerError
from gateway.ledger.answered import experts_asked
from gateway.ledger.database import opened
from gateway.settings.devices import placed_on, turns_memory
from gateway.settings.root import Settings

_log = logging.getLogger(__name__)
_MOST_ASKED = 10_000


def awake_first(settings: Settings) -> frozenset[str]:
    """Of the experts that sleep and wake by demand, those to start at once."""
    if not settings.residency.experts:
        return frozenset()
    return fitting(planner_of(settings), _asked(settings))


def fitting(planner: ResidencyPlanner, asked: Sequence[str]) -> frozenset[str]:
    """The most asked that fit together; of equals, whoever is configured first.

    Args:
        planner: Knows who fits.
        asked: The expert of each request lately.
    """
    counts = Counter(asked)
    found: set[str] = set()
    for name in sorted(planner.experts, key=lambda name: -counts[name]):
        if planner.fits(name, found):
            found.add(name)
    return frozenset(found)


def steward_of(settings: Settings) -> Steward:
    """Who looks after the engines as the settings say."""
    residency = settings.residency
    return Steward(planner_of(settings), host=residency.host_gb, wake_s=residency.wake_s)


def planner_of(settings: Settings) -> ResidencyPlanner:
    """Who decides whose turn it is, within what there is of each device."""
    residency = settings.residency
    placed = placed_on(settings.devices, settings.experts, residency)
    footprints = {}
    for name, gb in turns_memory(settings.experts, residency).items():
        seats = placed.seats.get(name, ())
        on = {one.device_id: gb / len(seats) for one in seats}
        footprints[name] = Footprint(gb, residency.wake_s, on)
    return ResidencyPlanner(
        footprints,
        residency.total_gb,
        devices={one.device_id: gb for one, gb in placed.turns.items()},
        window_s=residency.window_s,
        half_life_s=residency.half_life_s,
        stay=residency.stay,
    )


def start_together(supervisor: Supervisor, names: Collection[str]) -> None:
    """Start these at the same time.

    Raises:
        EngineStartError: One did not come up.
    """
    if not names:
        return
    with ThreadPoolExecutor(len(names), "starting") as threads:
        for started in [threads.submit(supervisor.start, name) for name in names]:
            started.result()


def _asked(settings: Settings) -> list[str]:
    try:
        with opened(settings.ledger_url) as engine:
            return experts_asked(engine, 0.0, float("inf"), _MOST_ASKED)
    except LedgerError as error:
        _log.warning("who was asked lately is not known: %s", error)
        return []
