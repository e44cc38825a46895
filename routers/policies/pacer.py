"""The pacer: a price on money that rises while too much is spent, and falls while too little."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

from routers.fitting.practice import Practice
from routers.policies.budget import BudgetPolicy
from routers.policies.greedy import known_costs, on_the_best, utilities
from routers.records import Candidates, Floats, Preference


@dataclass(slots=True)
class PacerPolicy:
    """Greedy on u - λ · cost / B, where λ follows what was spent: λ ← [λ + η · (cost / B - 1)]₊.

    That is dual ascent on "spend B a request on average". What was spent too much stays in λ until
    it was saved again, so over T requests the mean cost misses B by B · |λ_T - λ_0| / (η T) at
    most, whatever becomes of prices and traffic. Two limits: where even λ = 0 spends less than B,
    the rest is not saved up; and λ stays below `most`, so a debt that could not be paid off by
    sending all to the cheapest expert is forgiven.

    `fit` only finds where λ starts, by `BudgetPolicy`; unfitted it starts at 0 and learns.

    Each process paces what it serves itself. As B is per request, several together keep it, too.

    Source: the pacing of "ParetoBandit", after Balseiro & Gur, "Learning in Repeated Auctions with
    Budgets: Regret Minimization and Equilibrium", 2019.

    Attributes:
        usd_per_request: B, mean dollars of a request; > 0.
        step: η, how fast λ follows, in quality points; > 0.
        most: The highest λ, in quality points per B; > 0.
        start: λ_0; None before it is fitted.
    """

    name = "pacer"

    usd_per_request: float = 0.001
    step: float = 0.005
    most: float = 10.0
    start: float | None = None
    price: float = field(init=False)
    """λ as it stands, in quality points for each B dollars."""

    def __post_init__(self) -> None:
        for what in ("usd_per_request", "step", "most"):
            if not getattr(self, what) > 0:
                raise ValueError(f"{what} must be > 0, got {getattr(self, what)!r}")
        self.price = min(self.start or 0.0, self.most)

    @property
    def is_fitted(self) -> bool:
        return self.start is not None

    def distribution(self, candidates: Candidates, preference: Preference) -> tuple[Floats, Floats]:
        cost_A = known_costs(candidates)
        utility_A = utilities(candidates, preference) - self.price / self.usd_per_request * cost_A
        return on_the_best(utility_A, candidates, preference), utility_A

    def observe(self, cost_usd: float) -> None:
        moved = self.price + self.step * (cost_usd / self.usd_per_request - 1)
        self.price = min(max(moved, 0.0), self.most)

    def fit(self, practice: Practice, preference: Preference) -> Self:
        mix = BudgetPolicy(self.usd_per_request).fit(practice, preference)
        # Between the two ends, and no further up than where the cheapest gets everything.
        weight = max((mix.dearer_weight or 0.0) - preference.cost_weight, 0.0)
        scale = practice.queries[0].cost_scale_usd
        return replace(self, start=min(weight * self.usd_per_request / scale, self.most))
