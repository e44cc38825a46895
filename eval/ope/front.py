"""The cost–quality front of a router that never served, from a log alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eval.errors import OffPolicyError
from eval.ope.asked import LoggedWishes
from eval.ope.candidate import targets, weighed
from eval.ope.judge import Value, judge
from eval.ope.logged import Logged
from eval.ope.rewards import Rewards
from experts.cards import Prices
from routers.records import Estimates, Preference
from routers.router import Router

FRONT_WEIGHTS: tuple[float, ...] = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 3.0, 100.0)


@dataclass(frozen=True, slots=True)
class FrontPoint:
    """One setting of the candidate.

    Attributes:
        cost_weight: The setting; None for a named policy.
        policy: The named policy; "" for a cost weight.
        quality: Off-policy, None when the log can't tell.
        cost: Dollars per request, None when the log can't tell or costs are unknown.
        refused: Why it can't.
    """

    cost_weight: float | None
    policy: str
    quality: Value | None
    cost: Value | None
    refused: tuple[str, ...]

    @property
    def setting(self) -> str:
        return self.policy if self.cost_weight is None else f"{self.cost_weight:g}"


@dataclass(frozen=True, slots=True, eq=False)
class FrontJudging:
    """What points of a front are judged by.

    Attributes:
        router: The candidate.
        logged: Scored rows.
        known: From `rewards`.
        prices: What policies reckon with.
        estimates: What the candidate expects of the rows.
        seed: Of the bootstrap.
        replicates: Draws of the bootstrap.
    """

    router: Router
    logged: Logged
    known: Rewards
    prices: Mapping[str, Prices | None]
    estimates: Estimates
    seed: int = 0
    replicates: int = 200

    def point(
        self, asked: LoggedWishes, cost_weight: float | None = None, policy: str = ""
    ) -> FrontPoint:
        """What it would have been worth, had the requests asked for this."""
        try:
            queries = weighed(self.router, self.logged, self.prices, asked, self.estimates)
        except OffPolicyError as error:
            return FrontPoint(cost_weight, policy, None, None, (str(error),))
        target_NA = targets(self.router, self.logged, queries, asked, self.prices)
        found = judge(
            self.logged,
            target_NA,
            self.known,
            seed=self.seed,
            replicates=self.replicates,
            estimators=("dr",),
        )
        quality = found.values.get("quality", {}).get("dr")
        cost = found.values.get("cost", {}).get("dr")
        return FrontPoint(cost_weight, policy, quality, cost, found.refused)


def front(
    judging: FrontJudging, asked: LoggedWishes, cost_weights: Sequence[float] = FRONT_WEIGHTS
) -> tuple[FrontPoint, ...]:
    """The router's own policy at each cost weight; settings that the log can't judge say why."""
    return tuple(
        judging.point(asked.at(Preference(cost_weight=weight)), weight) for weight in cost_weights
    )


def policy_points(judging: FrontJudging, asked: LoggedWishes) -> tuple[FrontPoint, ...]:
    """Every named policy, had all requests asked for it."""
    return tuple(judging.point(asked.under(name), policy=name) for name in sorted(asked.named))
