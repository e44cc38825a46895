"""Whether a router may choose who embeds a request, and who does where none may."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from experts.cards import ExpertCard
from gateway.ask import Ask
from gateway.settings.routing import RoutingSettings
from routers.errors import NoEligibleExpertError


def usual_embedder(
    ask: Ask, cards: Sequence[ExpertCard], routing: RoutingSettings, routers: Collection[str]
) -> str | None:
    """Who embeds what names no expert; None: whom `routing.embeddings_router` chooses.

    A router chooses only where the request says what its vectors will be compared with: else it is
    always the same one, so that they can be compared at all.

    Args:
        ask: As `Spaces.settled` returned it.
        cards: The pool.
        routing: Who is preferred.
        routers: Those that serve.

    Raises:
        NoEligibleExpertError: Nobody makes embeddings.
    """
    among, wishes = set(ask.built.values()), ask.wishes
    if len(among) == 1:
        return next(iter(among))
    placed = bool(among) or wishes.collection is not None or wishes.session is not None
    if placed and routing.embeddings_router in routers:
        return None
    able = [card for card in cards if card.api == "embeddings"]
    able = [card for card in able if not among or card.expert_id in among]
    if not able:
        raise NoEligibleExpertError({"all": "no expert makes embeddings"})
    usual = routing.embeddings_expert
    if usual is not None and (not among or usual in among):
        return usual
    return min(able, key=_dearness).expert_id


def _dearness(card: ExpertCard) -> tuple[bool, float]:
    prices = card.prices
    return (True, 0.0) if prices is None else (False, prices.expected_usd(1e6, 0))
