"""What a router does under policies that choose their own setting on the training side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from eval.replay.baselines import single
from eval.replay.replay import ReplayedTraffic, candidates_per_query, cards_of, choices, measure
from experts.cards import Prices
from routers.base import FittedPolicy
from routers.errors import TableError
from routers.policies.budget import BudgetPolicy
from routers.policies.conformal import ConformalPolicy
from routers.policies.floor import FloorPolicy
from routers.policies.threshold import ThresholdPolicy
from routers.records import Estimates, OutcomeTable, Preference
from routers.router import Router

_ANYTHING = Preference()


@dataclass(frozen=True, slots=True, eq=False)
class PolicyPoint:
    """One policy as it was fitted, and what it led to.

    Attributes:
        name: What it promises, in a few words.
        policy: Fitted on the router's rehearsal.
        traffic: On the test side.
    """

    name: str
    policy: FittedPolicy
    traffic: ReplayedTraffic


def shown_policies(train: OutcomeTable, best: int) -> dict[str, FittedPolicy]:
    """The policies that a comparison shows, by what they promise.

    Args:
        train: The training side; half of what the best single expert costs there is the budget.
        best: Its column.
    """
    shown: dict[str, FittedPolicy] = {
        "99% of the best": FloorPolicy(0.99),
        "95% of the best": FloorPolicy(0.95),
        "cheap one wrong 10%": ConformalPolicy(0.1),
    }
    budget = measure(train, single(train, best)).cost_usd / 2
    if budget > 0:
        shown["half the cost"] = BudgetPolicy(budget)
    if len(train.experts) == 2:
        shown["half to the better"] = ThresholdPolicy(0.5)
    return shown


def policy_points(
    router: Router,
    policies: Mapping[str, FittedPolicy],
    table: OutcomeTable,
    estimates: Estimates,
    prices: Mapping[str, Prices | None],
) -> tuple[PolicyPoint, ...]:
    """Fit each policy on the router's rehearsal and replay it on `table`.

    Args:
        router: Trained.
        policies: By what they promise.
        table: The test side.
        estimates: What the router expects of it.
        prices: What policies reckon with.

    Returns:
        One for each policy that can be fitted; none for a router without a rehearsal.
    """
    cards = cards_of(prices)
    try:
        practice = router.practice(cards, _ANYTHING)
    except TableError:
        return ()
    queries = candidates_per_query(router, table.prompts, estimates, cards)
    found = []
    for name, policy in policies.items():
        try:
            fitted = policy.fit(practice, _ANYTHING)
        except TableError:
            continue
        traffic = measure(table, choices(fitted, queries, _ANYTHING))
        if not np.isnan(traffic.quality):
            found.append(PolicyPoint(name, fitted, traffic))
    return tuple(found)
