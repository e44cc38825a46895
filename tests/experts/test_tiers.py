"""What the way to an expert costs is a part of its prices."""

from __future__ import annotations

import pytest

from experts.cards import ExpertCard, Prices
from experts.compose.cards import Share, composed_card
from experts.messages import Usage
from experts.tiers import with_egress
from gateway.settings.experts import RemoteExpert


def test_egress_is_four_bytes_of_every_token() -> None:
    prices = Prices(1.0, 2.0, cache_read=0.5, request=0.001, source="config")
    dearer = with_egress(prices, 0.09)
    usage = Usage(input=1000, cache_read=500, output=200)
    bytes_moved = 4 * (1000 + 500 + 200)
    more = dearer.cost_nanousd(usage) - prices.cost_nanousd(usage)
    assert more == pytest.approx(bytes_moved * 0.09, abs=1)
    assert dearer.cache_write is None
    assert dearer.source == "config, egress at $0.09 per GB"
    assert with_egress(prices, 0) is prices


def test_an_entry_says_where_it_is() -> None:
    entry = RemoteExpert.model_validate(
        {
            "id": "a",
            "base_url": "http://127.0.0.1:9/v1",
            "location": "edge",
            "rtt_ms": 40,
            "privacy": "internal",
            "tags": {"x": "y"},
        }
    )
    card = entry.card(None)
    assert (card.location, card.rtt_s, card.privacy) == ("edge", 0.04, "internal")
    assert card.tags == {"location": "edge", "x": "y"}


def test_a_composition_is_as_far_and_as_open_as_its_farthest_and_most_open() -> None:
    near = ExpertCard("near", location="device", rtt_s=0.001, privacy="private")
    far = ExpertCard("far", location="cloud", rtt_s=0.1, privacy="internal")
    card = composed_card("both", [Share(near), Share(far)], [Share(near)])
    assert (card.location, card.rtt_s, card.privacy) == ("cloud", 0.001, "internal")
