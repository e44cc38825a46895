"""Has the world moved since the version that serves was fitted, and what does that make untrue?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from sqlalchemy import Engine

from eval.drift.adwin import Adwin
from eval.drift.residuals import ALL, Moved, Residuals, moved, moved_since
from eval.promotion.evidence import Material, stacked
from gateway.ledger.residuals import residuals
from gateway.settings.retrain import DriftSettings
from routers.estimators.drift import Alarm
from routers.records import Floats, OutcomeTable

_BINS = 5


@dataclass(frozen=True, slots=True)
class Drift:
    """What was found.

    Attributes:
        since: When it began, seconds since 1970.
        found: When it could be told.
        reason: In words.
        experts: Whose scores from before say nothing any more.
    """

    since: float
    found: float
    reason: str
    experts: tuple[str, ...]


def drift(
    engine: Engine, router: str, versions: Sequence[str], since: float, settings: DriftSettings
) -> Drift | None:
    """Look at every score of these versions since a time.

    Args:
        engine: The ledger.
        router: Its name.
        versions: Those whose expectations are the same.
        since: Seconds since 1970.
        settings: When a change is one.
    """
    seen = residuals(engine, router, versions, since)
    alarm = _rule(settings)
    found = moved(seen, alarm)
    honest = moved(_by_expectation(seen), alarm)
    if not found and not honest:
        return None
    first = min((*found, *honest), key=lambda each: each.since)
    words = [each.sentence for each in found] or [_dishonest(each) for each in honest]
    everywhere = {each.expert for each in found if each.slice == ALL}
    return Drift(
        first.since,
        max(each.found for each in (*found, *honest)),
        "; ".join(words),
        tuple(sorted(everywhere or {each.expert for each in found})),
    )


def _rule(settings: DriftSettings) -> Alarm | Adwin:
    if settings.detector == "adwin":
        return Adwin(settings.delta, settings.least_scores)
    return Alarm(settings.slack, settings.threshold, settings.least_scores)


def changed_with(
    engine: Engine, router: str, versions: Sequence[str], since: float, until: float
) -> tuple[str, ...]:
    """Experts that changed at a time at which something is known to have changed.

    Args:
        engine: The ledger.
        router: Its name.
        versions: Those whose expectations are the same.
        since: Seconds since 1970.
        until: Decisions at this time are left out.
    """
    seen = residuals(engine, router, versions, 0.0)
    return moved_since(seen.until(until), since) if len(seen) else ()


def without_forgotten(
    material: Material, at_N: Floats, forgotten: Mapping[str, float], judged: float
) -> Material:
    """What may still be learned from, and judged by.

    Args:
        material: All decisions and what was collected.
        at_N: When each decision was made.
        forgotten: Expert to the time before which its scores say nothing.
        judged: Decisions before this time only teach: what served then met another world.
    """
    table = material.logged.table
    since_A = np.array([forgotten.get(expert, -np.inf) for expert in table.experts])
    gone_NA = at_N[:, None] < since_A
    kept = replace(table, score_NA=np.where(gone_NA, np.nan, table.score_NA))
    new, old = np.flatnonzero(at_N >= judged), np.flatnonzero(at_N < judged)
    material = replace(material, logged=replace(material.logged, table=kept))
    if not len(old):
        return material
    return replace(material.take(new), collected=_beside(material.collected, kept.take(old)))


def _beside(collected: OutcomeTable | None, old: OutcomeTable) -> OutcomeTable:
    return old if collected is None else stacked(collected, old)


def _by_expectation(seen: Residuals) -> Residuals:
    """The same answers, parted by how good they were expected to be, whoever gave them."""
    bin_N = np.minimum((seen.expected_N * _BINS).astype(int), _BINS - 1)
    names = [f"{place / _BINS:.1f}–{(place + 1) / _BINS:.1f}" for place in range(_BINS)]
    return replace(
        seen, experts=[names[place] for place in bin_N.tolist()], slices=[None] * len(seen)
    )


def _dishonest(found: Moved) -> str:
    return (
        f"answers expected to score {found.expert} now score "
        f"{100 * (found.after - found.before):+.0f} points against that"
    )
