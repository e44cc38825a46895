"""What a router would have done on logged requests, through the code that serves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from eval.errors import OffPolicyError
from eval.ope.logged import Logged
from eval.replay import cards_of, request_of
from experts.cards import Prices
from routers.candidates import row_of, weigh
from routers.explore import with_exploration
from routers.features import estimate_prompt_tokens
from routers.policies.greedy import good_enough
from routers.records import Candidates, Estimates, Floats, Preference
from routers.router import Router


def weighed(
    router: Router,
    logged: Logged,
    prices: Mapping[str, Prices | None],
    estimates: Estimates | None = None,
) -> list[Candidates]:
    """What the router's policy would have weighed on each request: who was eligible, and no other.

    Args:
        router: The candidate.
        logged: What was seen.
        prices: What the policy reckons with, for every expert of the log.
        estimates: `router.estimate` of the prompts, where the caller has it.

    Raises:
        OffPolicyError: A price is missing, or a request that nobody could serve is in the log.
    """
    table = logged.table
    lacking = sorted(set(table.experts) - set(prices))
    if lacking:
        raise OffPolicyError(f"there is no price entry for {', '.join(map(repr, lacking))}")
    cards = cards_of({expert: prices[expert] for expert in table.experts})
    estimates = router.estimate(table.prompts) if estimates is None else estimates
    typical, found = router.typical, []
    for row, prompt in enumerate(table.prompts):
        able = [cards[column] for column in np.flatnonzero(logged.eligible_NA[row])]
        if not able:
            raise OffPolicyError(f"nobody could serve {table.query_ids[row]!r}: mend the log")
        request = request_of(prompt)
        tokens = estimate_prompt_tokens(request)
        candidates, _ = weigh(request, tokens, able, cards, row_of(estimates, row), typical, {})
        found.append(candidates)
    return found


def targets(
    router: Router,
    logged: Logged,
    queries: Sequence[Candidates],
    preferences: Sequence[Preference],
) -> Floats:
    """P(expert | request) under the router, its exploration included, shape (N, A).

    Args:
        router: The candidate.
        logged: What was seen.
        queries: From `weighed`.
        preferences: The trade-off that each request asks for, length N.
    """
    column = {expert: place for place, expert in enumerate(logged.table.experts)}
    target_NA = np.zeros(logged.table.score_NA.shape)
    for row, (candidates, preference) in enumerate(zip(queries, preferences, strict=True)):
        chances_A = router.policy.distribution(candidates, preference)[0]
        among_A = good_enough(candidates, preference) if preference.min_quality > 0 else None
        chances_A = with_exploration(chances_A, router.epsilon, among_A)
        target_NA[row, [column[expert] for expert in candidates.experts]] = chances_A
    return target_NA


def always(logged: Logged, expert: str) -> Floats:
    """Always the same expert, and where it could not serve, anybody who could alike, (N, A).

    Raises:
        OffPolicyError: The log knows no such expert.
    """
    if expert not in logged.table.experts:
        known = ", ".join(logged.table.experts)
        raise OffPolicyError(f"the log knows no expert {expert!r}; it has {known}")
    column = logged.table.experts.index(expert)
    anybody_NA = logged.eligible_NA / logged.eligible_NA.sum(axis=1, keepdims=True)
    alone_NA = np.zeros(logged.table.score_NA.shape)
    alone_NA[:, column] = 1.0
    return np.where(logged.eligible_NA[:, [column]], alone_NA, anybody_NA)
