"""Applies a router offline to recorded outcomes, through the policy code that serves.

Only cells with a score count. Where a query's chosen expert was not observed, that query is
counted and left out of the means; it is never taken as 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from eval.metrics.intervals import ratio
from experts.cards import ExpertCard, Prices
from experts.messages import ChatRequest, Message
from routers.base import Policy
from routers.candidates import row_of, weigh
from routers.features import estimate_prompt_tokens
from routers.records import Candidates, Estimates, Floats, OutcomeTable, Preference
from routers.router import Router

COST_WEIGHTS: tuple[float, ...] = (
    0.0,
    *np.geomspace(1e-3, 1e-2, 4, endpoint=False).tolist(),
    *np.geomspace(1e-2, 3.0, 25, endpoint=False).tolist(),
    *np.geomspace(3.0, 1e4, 12).tolist(),
)
"""The sweep: from quality whatever it costs to the cheapest expert whatever its quality."""


@dataclass(frozen=True, slots=True, eq=False)
class ReplayedTraffic:
    """What a way of choosing experts led to, query by query.

    With recorded propensities the weights are 1 / propensity, so that the means are the
    self-normalised importance-sampling estimates of what the choices would have led to.

    Attributes:
        quality_N: Score of the chosen expert; mean under the weights where several may be chosen.
        quality_weight_N: How much each query counts; 0 where no chosen cell was observed.
        cost_N: Dollars of the chosen expert.
        cost_weight_N: The same for cost; 0 where the cost is unknown.
        latency_N: Seconds of the chosen expert.
        latency_weight_N: The same for latency.
        share_A: Share of the queries that each expert gets, sums to 1.
        likeliest_N: Column of the likeliest expert of each query.
        unobserved: Queries whose chosen expert was not observed (expected number).
    """

    quality_N: Floats
    quality_weight_N: Floats
    cost_N: Floats
    cost_weight_N: Floats
    latency_N: Floats
    latency_weight_N: Floats
    share_A: Floats
    likeliest_N: npt.NDArray[np.int16]
    unobserved: float

    @property
    def quality(self) -> float:
        """Mean score in [0, 1]; NaN when nothing was observed."""
        return _mean(self.quality_N, self.quality_weight_N)

    @property
    def cost_usd(self) -> float:
        """Mean dollars per query over the queries whose cost is known; NaN when none is."""
        return _mean(self.cost_N, self.cost_weight_N)

    @property
    def latency_s(self) -> float:
        """Mean seconds per query over the queries whose latency is known; NaN when none is."""
        return _mean(self.latency_N, self.latency_weight_N)


def measure(table: OutcomeTable, probabilities_NA: Floats) -> ReplayedTraffic:
    """What choosing experts with these probabilities leads to on recorded outcomes.

    Args:
        table: What was observed.
        probabilities_NA: P(expert | query), rows sum to 1, shape (N, A).
    """
    seen_NA = ~np.isnan(table.score_NA)
    weight_NA = np.where(seen_NA, probabilities_NA / table.propensity_NA, 0.0)
    quality = _per_query(table.score_NA, weight_NA)
    cost = _per_query(table.cost_usd_NA, weight_NA)
    latency = _per_query(table.latency_s_NA, weight_NA)
    unobserved = float((probabilities_NA * ~seen_NA).sum())
    share_A = probabilities_NA.mean(axis=0)
    likeliest_N = probabilities_NA.argmax(axis=1).astype(np.int16)
    return ReplayedTraffic(*quality, *cost, *latency, share_A, likeliest_N, unobserved)


def measure_columns(table: OutcomeTable, columns_N: npt.NDArray[np.intp]) -> ReplayedTraffic:
    """The same as `measure` where each query goes to one expert, in a fraction of the time."""
    rows_N = np.arange(len(table))
    seen_N = ~np.isnan(table.score_NA[rows_N, columns_N])
    weight_N = np.where(seen_N, 1.0 / table.propensity_NA[rows_N, columns_N], 0.0)

    def per_query(values_NA: Floats) -> tuple[Floats, Floats]:
        values_N = values_NA[rows_N, columns_N]
        known_N = np.where(np.isnan(values_N), 0.0, weight_N)
        return ratio(np.where(known_N > 0, values_N, 0.0) * known_N, known_N), known_N

    counts_A = np.bincount(columns_N, minlength=len(table.experts))
    return ReplayedTraffic(
        *per_query(table.score_NA),
        *per_query(table.cost_usd_NA),
        *per_query(table.latency_s_NA),
        counts_A / len(table),
        columns_N.astype(np.int16),
        float((~seen_N).sum()),
    )


def always(table: OutcomeTable, columns_N: npt.ArrayLike) -> Floats:
    """The probabilities of choosing exactly one expert per query, by column."""
    probabilities_NA = np.zeros(table.score_NA.shape)
    probabilities_NA[np.arange(len(table)), np.asarray(columns_N, dtype=np.intp)] = 1.0
    return probabilities_NA


def cards_of(prices: Mapping[str, Prices | None]) -> tuple[ExpertCard, ...]:
    """Cards that say nothing but what an expert costs, sorted by id."""
    return tuple(ExpertCard(expert, prices=prices[expert]) for expert in sorted(prices))


def request_of(prompt: str) -> ChatRequest:
    """A recorded prompt as the request that would have carried it."""
    return ChatRequest((Message("user", prompt),))


def candidates_per_query(
    router: Router, prompts: Sequence[str], estimates: Estimates, cards: Sequence[ExpertCard]
) -> list[Candidates]:
    """What the policy weighs for each query when it is served, every expert eligible.

    Args:
        router: Whose typical request sets the scales.
        prompts: Of N queries.
        estimates: What is expected of each expert on them.
        cards: Every expert, sorted by id, with its prices.
    """
    requests = [request_of(prompt) for prompt in prompts]
    return [
        weigh(
            request,
            estimate_prompt_tokens(request),
            cards,
            cards,
            row_of(estimates, row),
            router.typical,
            {},
        )[0]
        for row, request in enumerate(requests)
    ]


def choices(policy: Policy, queries: Sequence[Candidates], preference: Preference) -> Floats:
    """P(expert | query) under a policy, shape (N, A), columns as `candidates.experts`."""
    return np.stack([policy.distribution(query, preference)[0] for query in queries])


def _per_query(values_NA: Floats, weight_NA: Floats) -> tuple[Floats, Floats]:
    weight_NA = np.where(np.isnan(values_NA), 0.0, weight_NA)
    weight_N = weight_NA.sum(axis=1)
    sum_N = (np.where(weight_NA > 0, values_NA, 0.0) * weight_NA).sum(axis=1)
    return ratio(sum_N, weight_N), weight_N


def _mean(values_N: Floats, weights_N: Floats) -> float:
    total = float(weights_N.sum())
    if total <= 0:
        return float("nan")
    return float((np.where(weights_N > 0, values_N, 0.0) * weights_N).sum()) / total
