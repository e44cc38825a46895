"""The card of a composition, from its entry."""

from __future__ import annotations

from collections.abc import Sequence

from experts.cards import ExpertCard
from experts.compose.cards import Share, composed_card
from gateway.settings.compositions import CompositionSettings


def card_of(
    entry: CompositionSettings,
    expert_id: str,
    shares: Sequence[Share],
    least: Sequence[Share],
) -> ExpertCard:
    """See `experts.compose.cards.composed_card`."""
    return composed_card(
        expert_id,
        shares,
        least,
        description=entry.description,
        quality_prior=entry.quality_prior,
        caps=entry.caps,
    )
