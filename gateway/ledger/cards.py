"""What the ledger knows of experts: the newest card of each that was ever asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Engine, select

from experts.cards import ExpertCard
from gateway.ledger.database import reader
from gateway.ledger.tables import expert_card

_KEPT = (
    "context_tokens", "max_output_tokens", "tools", "structured_output", "local", "quality_prior",
    "params_active_b", "params_total_b", "released", "tags", "api", "location", "rtt_s", "privacy",
)  # fmt: skip


def latest_cards(engine: Engine) -> dict[str, ExpertCard]:
    """The newest card by expert, with what policies and their limits go by; without prices.

    Only of experts that were asked: a card is booked with the first attempt.
    """
    query = select(expert_card.c.expert_id, expert_card.c.card).order_by(expert_card.c.at)
    with reader(engine).connect() as connection:
        return {row.expert_id: _card(row.card) for row in connection.execute(query)}


def _card(content: Mapping[str, Any]) -> ExpertCard:
    known = {name: content[name] for name in _KEPT if name in content}
    read = content["modalities"]
    modalities = None if read is None else frozenset(read)
    return ExpertCard(content["expert_id"], modalities=modalities, **known)
