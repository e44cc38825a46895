"""How the engines begin: who is awake at first, and who looks after them from then on."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from experts.engines.supervisor import Supervisor
from experts.residency.planner import ResidencyPlanner
from experts.residency.steward import Steward, footprints
from gateway.errors import LedgerError
from gateway.ledger.answered import experts_asked
from gateway.ledger.database import opened
from gateway.settings.devices import turns_memory
from gateway.settings.root import Settings

_log = logging.getLogger(__name__)
_MOST_ASKED = 10_000


def awake_first(settings: Settings) -> frozenset[str]:
    """Of the experts that sleep and wake by demand, those to start at once."""
    residency = settings.residency
    if not residency.experts:
        return frozenset()
    return fitting(_memory(settings), residency.memory_gb, _asked(settings))


def fitting(memory: Mapping[str, float], room: float, asked: Sequence[str]) -> frozenset[str]:
    """The most asked that fit together; of equals, whoever is configured first.

    Args:
        memory: Expert to what it takes.
        room: What there is.
        asked: The expert of each request lately.
    """
    counts = Counter(asked)
    found = set()
    for name in sorted(memory, key=lambda name: -counts[name]):
        if memory[name] <= room:
            found.add(name)
            room -= memory[name]
    return frozenset(found)


def steward_of(settings: Settings) -> Steward:
    """Who looks after the engines as the settings say."""
    residency, memory = settings.residency, _memory(settings)
    planner = ResidencyPlanner(
        footprints(memory, residency.wake_s),
        residency.memory_gb,
        window_s=residency.window_s,
        half_life_s=residency.half_life_s,
        stay=residency.stay,
    )
    return Steward(
        planner,
        memory,
        residency.memory_gb,
        host=residency.host_gb,
        wake_s=residency.wake_s,
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


def _memory(settings: Settings) -> dict[str, float]:
    return turns_memory(settings.devices, settings.experts, settings.residency)


def _asked(settings: Settings) -> list[str]:
    try:
        with opened(settings.ledger_url) as engine:
            return experts_asked(engine, 0.0, float("inf"), _MOST_ASKED)
    except LedgerError as error:
        _log.warning("who was asked lately is not known: %s", error)
        return []
