"""What a router would have done on logged requests, through the code that serves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from eval.errors import OffPolicyError
from eval.ope.asked import LoggedWishes
from eval.ope.logged import Logged
from eval.replay.replay import request_of
from experts.cards import ExpertCard, Prices
from experts.messages import ChatRequest
from routers.base import AdaptivePolicy
from routers.candidates import Expected, row_of, weigh
from routers.eligible import Constraints, eligible
from routers.explore import with_exploration
from routers.features import estimate_prompt_tokens
from routers.named import NO_LIMITS
from routers.policies.greedy import good_enough, known_costs
from routers.records import Candidates, Estimates, Floats
from routers.router import Router, split_by_latency


def weighed(
    router: Router,
    logged: Logged,
    prices: Mapping[str, Prices | None],
    asked: LoggedWishes,
    estimates: Estimates | None = None,
) -> list[Candidates]:
    """What a policy would have weighed on each request: who was eligible, and no other.

    Args:
        router: The candidate.
        logged: What was seen.
        prices: What policies reckon with, for every expert of the log.
        asked: What each request asked for: soft flags, and the limits of its policy.
        estimates: `router.estimate` of the prompts, where the caller has it.

    Raises:
        OffPolicyError: A price is missing, or a request that nobody could serve is in the log.
    """
    table = logged.table
    lacking = sorted(set(table.experts) - set(prices))
    if lacking:
        raise OffPolicyError(f"there is no price entry for {', '.join(map(repr, lacking))}")
    cards = asked.pool({expert: prices[expert] for expert in table.experts})
    column = {expert: place for place, expert in enumerate(table.experts)}
    estimates = router.estimate(table.prompts) if estimates is None else estimates
    typical, found = router.typical, []
    for row, prompt in enumerate(table.prompts):
        able = tuple(card for card in cards if logged.eligible_NA[row, column[card.expert_id]])
        request, expected = request_of(prompt), row_of(estimates, row)
        tokens = estimate_prompt_tokens(request)
        if (limits := asked.limits(row)) is not NO_LIMITS:
            able = _within(limits, able, request, tokens, expected)
        if not able:
            policy = f" under policy {asked.policies[row]!r}" if asked.policies else ""
            raise OffPolicyError(f"nobody could serve {table.query_ids[row]!r}{policy}")
        prefer = asked.preferences[row].prefer
        candidates, _ = weigh(request, tokens, able, cards, expected, typical, prefer)
        found.append(candidates)
    return found


def _within(
    limits: Constraints,
    able: tuple[ExpertCard, ...],
    request: ChatRequest,
    tokens: float,
    expected: Expected,
) -> tuple[ExpertCard, ...]:
    kept, _ = eligible(request, tokens, able, {}, limits)
    return split_by_latency(kept, expected, limits.max_latency_s)[0]


def targets(
    router: Router,
    logged: Logged,
    queries: Sequence[Candidates],
    asked: LoggedWishes,
    prices: Mapping[str, Prices | None],
) -> Floats:
    """P(expert | request) under the router as it would serve, its exploration included, (N, A).

    Each request is decided by the policy that it asked for, fitted to this router. One that adapts
    goes through the requests in their order, from where it begins, and is told that each cost what
    was expected of whom it would have asked.

    Args:
        router: The candidate.
        logged: What was seen.
        queries: From `weighed` with the same `asked`.
        asked: What each request asked for.
        prices: What policies are fitted by.
    """
    column = {expert: place for place, expert in enumerate(logged.table.experts)}
    target_NA = np.zeros(logged.table.score_NA.shape)
    deciders = asked.deciders(router, prices)
    for row, (candidates, policy) in enumerate(zip(queries, deciders, strict=True)):
        preference = asked.preferences[row]
        chances_A = policy.distribution(candidates, preference)[0]
        among_A = good_enough(candidates, preference) if preference.min_quality > 0 else None
        chances_A = with_exploration(chances_A, router.epsilon, among_A)
        target_NA[row, [column[expert] for expert in candidates.experts]] = chances_A
        if isinstance(policy, AdaptivePolicy):
            policy.observe(float(chances_A @ known_costs(candidates)))
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
