"""How much exploring may cost a day, and for whom nothing is explored."""

from __future__ import annotations

import math
from collections.abc import Callable

from gateway.ids import now
from gateway.routing.batching import Then
from routers.records import Decision

_DAY_S = 86_400.0


class Exploration:
    """Counts what exploring is expected to cost, day by day (UTC), in this process.

    Args:
        budget_usd: What it may cost a day here; None: whatever it costs.
        clock: Seconds since 1970.
    """

    def __init__(self, budget_usd: float | None, clock: Callable[[], float] = now) -> None:
        self._budget_usd = budget_usd
        self._clock = clock
        self._day = -1.0
        self._spent_usd = 0.0

    @property
    def allowed(self) -> bool:
        """Whether there is something left for today."""
        return self._budget_usd is None or self.spent_usd < self._budget_usd

    @property
    def spent_usd(self) -> float:
        """Today's, so far."""
        day = self._clock() // _DAY_S
        if day != self._day:
            self._day, self._spent_usd = day, 0.0
        return self._spent_usd

    def behind(self, then: Then) -> Then:
        """`then`, preceded by a note of what the decision's exploring is expected to cost."""
        if self._budget_usd is None:
            return then

        def decided(found: Decision | Exception) -> None:
            if isinstance(found, Decision):
                self._spent_usd = self.spent_usd + extra_usd(found)
            then(found)

        return decided


def extra_usd(decision: Decision) -> float:
    """Dollars that its distribution is expected to cost above the choice of most probability.

    An expert whose price is unknown counts as what a typical request to the dearest costs. Never
    below 0: exploring a cheaper one earns no leave to explore more.
    """
    candidates = decision.candidates
    costs = [
        candidates.cost_scale_usd if math.isnan(cost) else cost
        for cost in candidates.cost_usd_A.tolist()
    ]
    likely = costs[int(decision.probabilities_A.argmax())]
    pairs = zip(decision.probabilities_A.tolist(), costs, strict=True)
    extra: float = sum(share * max(0.0, cost - likely) for share, cost in pairs)
    return extra
