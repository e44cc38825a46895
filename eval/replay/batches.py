"""The decisions of many queries at once: the same as the serving code, without its loop.

`tests/eval/replay/test_batches.py` holds the two together, expert for expert.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from eval.replay.baselines import lengths
from eval.replay.replay import (
    ReplayedTraffic,
    candidates_per_query,
    cards_of,
    choices,
    measure,
    measure_columns,
)
from experts.cards import Prices
from routers.policies.greedy import GreedyUtilityPolicy
from routers.records import Estimates, Floats, OutcomeTable, Preference
from routers.router import Router

Columns = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """What a policy weighs for N queries, every expert eligible.

    Attributes:
        quality_NA: Expected quality, a card's prior where it is unknown.
        cost_NA: Expected dollars, the row's highest where unknown.
        cost_scale_usd: What costs are measured against, > 0.
    """

    quality_NA: Floats
    cost_NA: Floats
    cost_scale_usd: float

    def greedy(self, cost_weight: float) -> Columns:
        """Whom the greedy policy chooses: highest utility, the cheaper of equals, then by id."""
        utility_NA = self.quality_NA - cost_weight * (self.cost_NA / self.cost_scale_usd)
        best_NA = utility_NA == utility_NA.max(axis=1, keepdims=True)
        columns_N: Columns = np.where(best_NA, self.cost_NA, np.inf).argmin(axis=1)
        return columns_N


def make_batch(
    router: Router,
    prompt_tokens_N: Floats,
    estimates: Estimates,
    prices: Mapping[str, Prices | None],
) -> Batch:
    """Put together what `routers.candidates.weigh` does, for plain prompts.

    Args:
        router: Whose typical request sets the scales.
        prompt_tokens_N: Estimated tokens of each prompt.
        estimates: What is expected of each expert.
        prices: Every expert of the estimates, and no other, to its prices.
    """
    cards = cards_of(prices)
    typical = router.typical
    tokens_NA = estimates.output_tokens_NA
    tokens_NA = np.where(np.isnan(tokens_NA), typical.output_tokens, tokens_NA)
    unknown_N = np.full(len(prompt_tokens_N), np.nan)
    cost_NA = np.stack(
        [
            unknown_N if price is None else _expected_usd(price, prompt_tokens_N, tokens_N)
            for price, tokens_N in zip((c.prices for c in cards), tokens_NA.T, strict=True)
        ],
        axis=1,
    )
    prior_A = np.array([card.quality_prior for card in cards])
    quality_NA = np.where(np.isnan(estimates.quality_NA), prior_A, estimates.quality_NA)
    scale = typical.dearest_usd(cards)
    return Batch(quality_NA, _filled(cost_NA, scale), scale)


def replayed(
    router: Router,
    table: OutcomeTable,
    estimates: Estimates,
    prices: Mapping[str, Prices | None],
    cost_weights: Sequence[float],
) -> list[ReplayedTraffic]:
    """What a router's decisions lead to on recorded outcomes, one for each cost weight."""
    if is_batched(router):
        batch = make_batch(router, lengths(table), estimates, prices)
        return [measure_columns(table, batch.greedy(weight)) for weight in cost_weights]
    queries = candidates_per_query(router, table.prompts, estimates, cards_of(prices))
    preferences = [Preference(cost_weight=weight) for weight in cost_weights]
    return [measure(table, choices(router.policy, queries, each)) for each in preferences]


def is_batched(router: Router) -> bool:
    """Whether `Batch` knows what this router's policy does; others are asked query by query."""
    return type(router.policy) is GreedyUtilityPolicy


def _expected_usd(price: Prices, prompt_tokens_N: Floats, output_tokens_N: Floats) -> Floats:
    tokens_N = prompt_tokens_N * price.input + output_tokens_N * price.output
    dollars_N: Floats = tokens_N / 1e6 + price.request
    return dollars_N


def _filled(cost_NA: Floats, scale: float) -> Floats:
    highest_N1 = np.where(np.isnan(cost_NA), 0.0, cost_NA).max(axis=1, keepdims=True)
    filling_N1 = np.where(highest_N1 > 0, highest_N1, scale)
    return np.where(np.isnan(cost_NA), filling_N1, cost_NA)
