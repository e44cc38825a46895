"""The best fleet at one budget after another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from eval.fleet.design import Budgets, Fleet, Quarry, design
from eval.fleet.judge import FleetJudge, Worth
from routers.errors import RoutingError


@dataclass(frozen=True, slots=True)
class FrontStep:
    """One fleet on the way from a small budget to a large one.

    Attributes:
        fleet: The best for its budgets.
        expected: Quality that the training side promises; it flatters, since the fleet was chosen
            by it.
        routed: On held-out queries, by the task that the classifier finds.
        single: The best single expert that fits the budgets, on the same queries.
    """

    fleet: Fleet
    expected: float
    routed: Worth
    single: Worth | None


def front(
    found: Quarry,
    judge: FleetJudge,
    budgets: Budgets,
    *,
    along: str,
    steps: Sequence[float],
    required: Sequence[str] = (),
) -> Iterator[FrontStep]:
    """The best fleet at each step of one budget, the other as it is.

    Steps that nothing fits are left out, and so are those that change nothing.

    Args:
        found: The training side.
        judge: With the held-out side.
        budgets: The budget that stays, and the weight of loads.
        along: `size` or `load`: which budget grows.
        steps: Its values.
        required: Experts to host in any case.
    """
    before: Fleet | None = None
    for value in steps:
        tried = replace(budgets, **{along: float(value)})
        try:
            fleet = design(found, tried, required)
        except RoutingError:
            continue
        if before is not None and fleet.expert_of == before.expert_of:
            continue
        before = fleet
        within = judge.best_single_within(tried)
        yield FrontStep(fleet, fleet.map.quality, judge.routed(fleet), within)


def usual_steps(found: Quarry, along: str, count: int = 8) -> list[float]:
    """Budgets from the smallest expert's share to where more changes nothing, evenly by ratio."""
    question = found.question
    values_A = question.size_A if along == "size" else question.cost_CA[0]
    least = float(values_A[values_A > 0].min(initial=np.inf))
    most = float(values_A.sum() if along == "size" else values_A.max())
    if not least < most:
        return [most]
    return [float(f"{value:.3g}") for value in np.geomspace(least, most, count)]
