"""The decision when the asker has named the expert: nothing is left to estimate or to draw."""

from __future__ import annotations

import numpy as np

from experts.cards import ExpertCard
from experts.messages import ChatRequest
from routers.candidates import Typical, longest, weigh
from routers.eligible import Constraints, forbidden
from routers.errors import NoEligibleExpertError
from routers.features import answers_wanted, estimate_prompt_tokens
from routers.records import Candidates, Decision, Preference
from routers.router import UNTRAINED_VERSION

_TYPICAL = Typical()
_UNBOUNDED = ChatRequest(())
_ANYTHING = Preference()
_CERTAIN = np.ones(1)
_CERTAIN.flags.writeable = False


def explicit_decision(
    request: ChatRequest, card: ExpertCard, constraints: Constraints, name: str = "explicit"
) -> Decision:
    """What an untrained router decides that has only this expert to choose from.

    A client that names an expert knows better than its card what it can do, so neither its
    abilities nor its context window count; allow-list and price ceiling hold.

    Args:
        request: What is asked.
        card: The expert that was named.
        constraints: Hard limits. An unknown latency passes `max_latency_s`, flagged.
        name: What the ledger calls router and policy.

    Raises:
        NoEligibleExpertError: The constraints exclude it; `.reasons` says why.
    """
    prompt_tokens = estimate_prompt_tokens(request)
    reason = forbidden(request, prompt_tokens, card, constraints)
    if reason is not None:
        raise NoEligibleExpertError({card.expert_id: reason})
    candidates = _weighed(request, prompt_tokens, card)
    flags: tuple[str, ...] = ("untrained",)
    if constraints.max_latency_s is not None:
        flags += (f"latency_unknown:{card.expert_id}",)
    return Decision(
        router=name,
        version=UNTRAINED_VERSION,
        policy=name,
        preference=_ANYTHING,
        candidates=candidates,
        excluded={},
        # With no weight on anything else, utility is quality.
        utility_A=candidates.quality_A,
        probabilities_A=_CERTAIN,
        draw=0.0,
        chosen=0,
        flags=flags,
    )


def usual_answer(card: ExpertCard) -> float:
    """Tokens that an answer is taken to have where the request does not bound it."""
    return min(_TYPICAL.output_tokens, longest(_UNBOUNDED, card))


_weighed_before: dict[str, tuple[ExpertCard, Candidates, float]] = {}
_MOST_WEIGHED = 10_000


def _weighed(request: ChatRequest, prompt_tokens: float, card: ExpertCard) -> Candidates:
    """What `weigh` says of an expert that is alone, of which only the cost varies by request."""
    before = _weighed_before.get(card.expert_id)
    if before is None or before[0] is not card:
        before = card, _weighed_whole(request, prompt_tokens, card), usual_answer(card)
        if len(_weighed_before) >= _MOST_WEIGHED:
            _weighed_before.clear()
        _weighed_before[card.expert_id] = before
    _, same, answer = before
    cost_A = same.cost_usd_A
    if card.prices is not None:
        if request.max_tokens is not None or "n" in request.params:
            one = min(_TYPICAL.output_tokens, longest(request, card))
            answer = one * answers_wanted(request)
        cost_A = np.array([card.prices.expected_usd(prompt_tokens, answer)])
    return Candidates(
        same.experts,
        same.quality_A,
        same.stderr_A,
        cost_A,
        same.latency_s_A,
        same.output_tokens_A,
        same.penalty_A,
        same.cost_scale_usd,
        same.latency_scale_s,
    )


def _weighed_whole(request: ChatRequest, prompt_tokens: float, card: ExpertCard) -> Candidates:
    alone = (card,)
    candidates, _ = weigh(request, prompt_tokens, alone, alone, {}, _TYPICAL, {})
    for column in (
        candidates.quality_A,
        candidates.stderr_A,
        candidates.latency_s_A,
        candidates.output_tokens_A,
        candidates.penalty_A,
    ):
        # Many decisions share it.
        column.flags.writeable = False
    return candidates
