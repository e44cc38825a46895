"""The decision when the asker has named the expert: nothing is left to estimate or to draw."""

from __future__ import annotations

import numpy as np

from experts.cards import ExpertCard
from experts.messages import ChatRequest
from routers.candidates import Typical, weigh
from routers.eligible import Constraints, forbidden
from routers.errors import NoEligibleExpertError
from routers.features import estimate_prompt_tokens
from routers.records import Decision, Preference
from routers.router import UNTRAINED_VERSION

_TYPICAL = Typical()
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
    alone = (card,)
    candidates, _ = weigh(request, prompt_tokens, alone, alone, {}, _TYPICAL, {})
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
