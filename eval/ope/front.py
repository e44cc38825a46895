"""The cost–quality front of a router that never served, from a log alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eval.ope.candidate import targets
from eval.ope.judge import Value, judge
from eval.ope.logged import Logged
from eval.ope.rewards import Rewards
from routers.records import Candidates, Preference
from routers.router import Router

FRONT_WEIGHTS: tuple[float, ...] = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 3.0, 100.0)


@dataclass(frozen=True, slots=True)
class FrontPoint:
    """One setting of the candidate.

    Attributes:
        cost_weight: The setting.
        quality: Off-policy, None when the log can't tell.
        cost: Dollars per request, None when the log can't tell or costs are unknown.
        refused: Why it can't.
    """

    cost_weight: float
    quality: Value | None
    cost: Value | None
    refused: tuple[str, ...]


def front(
    router: Router,
    logged: Logged,
    queries: Sequence[Candidates],
    known: Rewards,
    *,
    cost_weights: Sequence[float] = FRONT_WEIGHTS,
    seed: int = 0,
    replicates: int = 200,
) -> tuple[FrontPoint, ...]:
    """Estimate every setting of a router; settings that the log can't judge say why.

    Args:
        router: The candidate.
        logged: Scored rows.
        queries: From `weighed`.
        known: From `rewards`.
        cost_weights: The settings.
        seed: Of the bootstrap.
        replicates: Draws of the bootstrap.
    """
    points = []
    for weight in cost_weights:
        target_NA = targets(router, logged, queries, [Preference(cost_weight=weight)] * len(logged))
        found = judge(
            logged, target_NA, known, seed=seed, replicates=replicates, estimators=("dr",)
        )
        quality = found.values.get("quality", {}).get("dr")
        cost = found.values.get("cost", {}).get("dr")
        points.append(FrontPoint(weight, quality, cost, found.refused))
    return tuple(points)
