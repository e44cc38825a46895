"""Cascade routing on logged requests at any price of quality, and the price of a budget."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import numpy.typing as npt

from routers.cascading.posterior import Mask, Seen
from routers.cascading.routing import CascadeRouting, Members
from routers.records import Floats

_HALVINGS = 40
_STEEPEST = 1e9


@dataclass(frozen=True, slots=True, eq=False)
class Replayed:
    """What came of N requests.

    Attributes:
        chosen_N: Column of whose answer was given.
        ran_NA: Who was asked.
    """

    chosen_N: npt.NDArray[np.intp]
    ran_NA: Mask

    def score(self, score_NA: Floats) -> Floats:
        """The score of each request."""
        return score_NA[np.arange(len(score_NA)), self.chosen_N]

    def usd(self, cost_usd_NA: Floats) -> Floats:
        """The dollars of each request: all who were asked."""
        spent_N: Floats = np.where(self.ran_NA, cost_usd_NA, 0.0).sum(axis=1)
        return spent_N


@dataclass(slots=True, eq=False)
class Replay:
    """A rule on logged requests. What sets are worth is computed once, whatever the price.

    Attributes:
        rule: Fitted.
        seen: Of N requests.
        usd_NA: Dollars expected of each expert, for each request.
    """

    rule: CascadeRouting
    seen: Seen
    usd_NA: Floats
    _states: dict[Members, tuple[list[Members], Floats, Floats]] = field(default_factory=dict)

    def run(self, price: float, depth: int | None = None) -> Replayed:
        """Every request to its end.

        Args:
            price: Quality points per dollar, >= 0.
            depth: Most answers, at most the rule's; None: the rule's.
        """
        count, experts = self.usd_NA.shape
        depth = depth or self.rule.depth
        ran_NA = np.zeros((count, experts), dtype=bool)
        chosen_N = np.zeros(count, dtype=np.intp)
        waiting: dict[Members, npt.NDArray[np.intp]] = {(): np.arange(count)}
        while waiting:
            after: dict[Members, list[npt.NDArray[np.intp]]] = {}
            for ran, rows in waiting.items():
                next_R = self._next(ran, rows, price, depth)
                stopped = rows[next_R < 0]
                if len(stopped):
                    quality = self._state(ran)[2][stopped][:, list(ran)]
                    chosen_N[stopped] = np.array(ran)[quality.argmax(axis=1)]
                for expert in np.unique(next_R[next_R >= 0]).tolist():
                    going = rows[next_R == expert]
                    ran_NA[going, expert] = True
                    after.setdefault(tuple(sorted((*ran, expert))), []).append(going)
            waiting = {ran: np.concatenate(parts) for ran, parts in after.items()}
        return Replayed(chosen_N, ran_NA)

    def price_for(self, budget_usd: float, depth: int | None = None) -> float:
        """The price at which these requests are expected to cost the budget, by bisection.

        A budget above what quality alone would spend gives 0.
        """
        low, high = 0.0, _STEEPEST

        def spent(price: float) -> float:
            return float(self.run(price, depth).usd(self.usd_NA).mean())

        if spent(0.0) <= budget_usd:
            return 0.0
        low = 1e-6
        for _ in range(_HALVINGS):
            middle = float(np.sqrt(low * high))
            low, high = (middle, high) if spent(middle) > budget_usd else (low, middle)
        return high

    def _next(
        self, ran: Members, rows: npt.NDArray[np.intp], price: float, depth: int
    ) -> npt.NDArray[np.intp]:
        sets, worth_NS, _ = self._state(ran)
        allowed = [place for place, members in enumerate(sets) if len(members) <= depth]
        usd_RA = self.usd_NA[rows]
        spent_RS = np.stack(
            [usd_RA[:, [e for e in sets[place] if e not in ran]].sum(axis=1) for place in allowed],
            axis=1,
        )
        # Of equals the smallest, which comes first.
        best_R = (worth_NS[rows][:, allowed] - price * spent_RS).argmax(axis=1)
        next_R = np.full(len(rows), -1, dtype=np.intp)
        for place in np.unique(best_R).tolist():
            missing = [expert for expert in sets[allowed[place]] if expert not in ran]
            if missing:
                here = best_R == place
                next_R[here] = np.array(missing)[usd_RA[here][:, missing].argmin(axis=1)]
        return next_R

    def _state(self, ran: Members) -> tuple[list[Members], Floats, Floats]:
        """The sets that may follow, what each is worth, and what is expected now."""
        if ran not in self._states:
            rule = self.rule
            ran_A = np.zeros(len(rule.experts), dtype=bool)
            ran_A[list(ran)] = True
            quality_NA = rule.posterior.quality(ran_A, self.seen)
            rest = [expert for expert in range(len(rule.experts)) if expert not in ran]
            sets = [
                tuple(sorted((*ran, *more)))
                for size in range(0 if ran else 1, rule.depth - len(ran) + 1)
                for more in combinations(rest, size)
            ]
            worth_NS = np.stack([rule.worth(ran, quality_NA, each) for each in sets], axis=1)
            self._states[ran] = sets, worth_NS, quality_NA
        return self._states[ran]
