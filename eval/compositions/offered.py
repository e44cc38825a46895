"""Which compositions of a pool are worth offering to a router, chosen on the training side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from eval.compositions.virtual import Cascaded, Composition, Picked, Voted
from eval.compositions.world import Side
from eval.curves import upper_hull
from routers.deferral.chain import Chain, search

_MOST_CASCADES = 6
_VOTERS = 3


def offered(train: Side, *, depth: int = 3, most: int = _MOST_CASCADES) -> list[Composition]:
    """Cascades along the frontier, and votes and best-ofs of good experts at three prices.

    Args:
        train: What is learned from.
        depth: Most experts of a cascade.
        most: Most cascades.
    """
    cascades = frontier(search(train.logged, depth=depth))
    longer = [chain for chain in cascades if len(chain.experts) > 1]
    spread = {round(place) for place in np.linspace(0, len(longer) - 1, most)} if longer else set()
    found: list[Composition] = [Cascaded(longer[place]) for place in sorted(spread)]
    for voters in _panels(train):
        found.append(Picked(voters))
        if train.seen.same_NAA is not None:
            found.append(Voted(voters))
    return found


def frontier(chains: Sequence[Chain]) -> list[Chain]:
    """The chains on the concave hull of quality over cost: none is beaten by mixing two others."""
    cost, quality = (np.array([getattr(c, n) for c in chains]) for n in ("cost_usd", "quality"))
    hull = upper_hull(cost, quality)
    corners = set(zip(hull.cost_V.tolist(), hull.quality_V.tolist(), strict=True))
    return [chain for chain in chains if (chain.cost_usd, chain.quality) in corners]


def _panels(train: Side) -> list[tuple[str, ...]]:
    """The best experts among the cheaper half, among the cheaper three quarters, and of all."""
    table = train.table
    cost_A, quality_A = table.cost_usd_NA.mean(axis=0), table.score_NA.mean(axis=0)
    by_cost = np.argsort(cost_A, kind="stable")
    panels = []
    for part in (0.5, 0.75, 1.0):
        able = by_cost[: max(int(np.ceil(part * len(by_cost))), min(_VOTERS, len(by_cost)))]
        best = able[np.argsort(-quality_A[able], kind="stable")][:_VOTERS]
        panels.append(tuple(table.experts[column] for column in best))
    return [panel for panel in dict.fromkeys(panels) if len(panel) > 1]
