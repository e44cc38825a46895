"""The card of a composition, from its entry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from experts.cards import ExpertCard
from experts.compose.cards import Made, Share, as_made, composed_card
from gateway.settings.compositions import CompositionSettings


def card_of(
    entry: CompositionSettings,
    expert_id: str,
    shares: Sequence[Share],
    least: Sequence[Share],
    made: Mapping[str, Made],
) -> ExpertCard:
    """See `experts.compose.cards.composed_card`; `made` are calls by composition, as logged."""
    known = made.get(expert_id)
    return composed_card(
        expert_id,
        shares if known is None else as_made(shares, known),
        least,
        description=entry.description,
        quality_prior=entry.quality_prior,
        caps=entry.caps,
    )
