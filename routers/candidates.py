"""The eligible experts of one request with everything that a policy weighs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from experts.cards import ExpertCard
from experts.messages import ChatRequest
from experts.record import record
from routers.features import answers_wanted
from routers.penalties import penalties
from routers.records import Candidates, Estimates

# An expert nobody has seen may be anywhere: the spread of a broad distribution over [0, 1].
PRIOR_STDERR = 0.25
_NOTHING = (float("nan"),) * 4


@record()
class Typical:
    """One typical request, which costs and latencies are measured against.

    Attributes:
        prompt_tokens: Median prompt, > 0.
        output_tokens: Median answer, > 0; stands in where an estimator knows none.
        latency_s: Median seconds of the slowest expert; NaN when unknown.
    """

    prompt_tokens: float = 500.0
    output_tokens: float = 300.0
    latency_s: float = float("nan")

    def dearest_usd(self, pool: Sequence[ExpertCard]) -> float:
        """Price of one typical request to the dearest model; 1 where all are free or unknown.

        A composition is none: one more of them should not change what a weight on costs means.
        """
        models = [card for card in pool if not card.composed]
        prices = [card.prices for card in models if card.prices is not None]
        dollars = [price.expected_usd(self.prompt_tokens, self.output_tokens) for price in prices]
        return max(dollars, default=0.0) or 1.0


Expected = Mapping[str, tuple[float, float, float, float]]
"""Quality, its standard error, output tokens and seconds by expert id; NaN where unknown."""


class Unfamiliar(dict[str, tuple[float, float, float, float]]):
    """`Expected` of a request that is unlike all that was learned from."""


def row_of(estimates: Estimates, row: int) -> Expected:
    """What is expected of each expert on one of the requests that `estimates` are about."""
    columns = (
        estimates.quality_NA[row],
        estimates.stderr_NA[row],
        estimates.output_tokens_NA[row],
        estimates.latency_s_NA[row],
    )
    listed = zip(*(column.tolist() for column in columns), strict=True)
    found = zip(estimates.experts, listed, strict=True)
    if estimates.unfamiliar_N is not None and estimates.unfamiliar_N[row]:
        return Unfamiliar(found)
    return dict(found)


def weigh(
    request: ChatRequest,
    prompt_tokens: float,
    able: Sequence[ExpertCard],
    pool: Sequence[ExpertCard],
    expected: Expected,
    typical: Typical,
    prefer: Mapping[str, float],
) -> tuple[Candidates, tuple[str, ...]]:
    """Put together what is expected of each eligible expert and what it costs.

    Args:
        request: What is asked; its `max_tokens` bounds the answer.
        prompt_tokens: Estimated tokens of the prompt.
        able: The eligible cards, sorted by id.
        pool: All cards, eligible or not: what costs are scaled by does not vary by request.
        expected: From `row_of`; an expert that is missing or NaN there has its card's prior.
        typical: What costs and latencies are measured against.
        prefer: Soft preferences, see `penalties`.

    Returns:
        The candidates, and the ids of those that only their cards' priors speak for.
    """
    answers = answers_wanted(request)
    columns: tuple[list[float], ...] = ([], [], [], [], [])
    qualities, stderrs, costs, latencies, outputs = columns
    unseen: list[str] = []
    for card in able:
        quality, stderr, output, latency = expected.get(card.expert_id, _NOTHING)
        limit = longest(request, card) * answers
        output *= answers
        # Comparisons with what is unknown are false, and leave it unknown.
        output = limit if output > limit else output
        tokens = output if output == output else min(typical.output_tokens * answers, limit)
        if quality != quality:
            unseen.append(card.expert_id)
            quality, stderr = card.quality_prior, PRIOR_STDERR
        elif stderr != stderr:
            stderr = PRIOR_STDERR
        qualities.append(quality)
        stderrs.append(stderr)
        costs.append(_cost(card, prompt_tokens, tokens))
        # What was timed has the way there in it; comparisons with what is unknown are false.
        latencies.append(card.rtt_s if latency < card.rtt_s else latency)
        outputs.append(output)
    if not any(seconds == seconds for seconds in latencies):
        latencies[:] = [card.rtt_s or float("nan") for card in able]
    quality_A, stderr_A, cost_A, latency_A, output_A = np.array(columns)
    candidates = Candidates(
        experts=tuple([card.expert_id for card in able]),
        quality_A=quality_A,
        stderr_A=stderr_A,
        cost_usd_A=cost_A,
        latency_s_A=latency_A,
        output_tokens_A=output_A,
        penalty_A=penalties(able, prefer),
        cost_scale_usd=typical.dearest_usd(pool),
        latency_scale_s=_latency_scale(latencies, typical.latency_s),
    )
    return candidates, tuple(unseen)


def longest(request: ChatRequest, card: ExpertCard) -> float:
    """Most tokens of one answer."""
    wanted, able = request.max_tokens, card.max_output_tokens
    if wanted is None or able is None:
        limit = able if wanted is None else wanted
        return float("inf") if limit is None else limit
    return min(wanted, able)


def _cost(card: ExpertCard, prompt_tokens: float, output_tokens: float) -> float:
    if card.prices is None:
        return float("nan")
    return card.prices.expected_usd(prompt_tokens, output_tokens)


def _latency_scale(latencies: Sequence[float], typical_s: float) -> float:
    if typical_s > 0:
        return typical_s
    return max((seconds for seconds in latencies if seconds > 0), default=1.0)
