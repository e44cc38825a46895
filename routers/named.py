"""A named policy: what it decides with, its hard limits, and how it is fitted to a router."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from typing import NamedTuple

from experts.cards import ExpertCard
from experts.messages import ChatRequest
from routers.base import AdaptivePolicy, FittedPolicy, Policy
from routers.eligible import Constraints, forbidden
from routers.errors import TableError
from routers.records import Preference
from routers.router import Router

NO_LIMITS = Constraints()
_ANYTHING = ChatRequest(())


class Named(NamedTuple):
    """One named policy.

    Attributes:
        preference: What it decides with.
        constraints: Hard limits of every request that it decides.
        policy: As it is configured; None: the router's own.
    """

    preference: Preference
    constraints: Constraints = NO_LIMITS
    policy: Policy | None = None


def fitted(
    policy: FittedPolicy, named: Named, router: Router, cards: Sequence[ExpertCard]
) -> FittedPolicy:
    """`policy` with its parameters chosen on what the router rehearsed.

    Args:
        policy: That of `named`.
        named: Its preference and limits: whom they exclude is not practised with.
        router: Whose expectations it will follow.
        cards: The pool.

    Raises:
        TableError: It can't be fitted to this router.
    """
    # Costs and latencies vary by request; whom its card excludes never answers.
    limits = replace(named.constraints, max_cost_usd=None, max_latency_s=None)
    able = [card for card in cards if forbidden(_ANYTHING, 1.0, card, limits) is None]
    return policy.fit(router.practice(able, named.preference), named.preference)


def decider(named: Named, router: Router, cards: Sequence[ExpertCard]) -> Policy:
    """What decides under a named policy and a router, as a gateway would begin to serve them.

    One that adapts is new, so that it may be told of what a replay spends. Where a policy can't be
    fitted the router's own decides, or one that adapts begins from nothing.
    """
    policy = named.policy
    if policy is None:
        return router.policy
    try:
        if isinstance(policy, FittedPolicy):
            return fitted(policy, named, router, cards)
    except TableError:
        return copy(policy) if isinstance(policy, AdaptivePolicy) else router.policy
    return copy(policy) if isinstance(policy, AdaptivePolicy) else policy
