"""What the way to an expert costs, between device, edge and cloud."""

from __future__ import annotations

from dataclasses import replace

from experts.cards import Prices

BYTES_PER_TOKEN = 4
"""What a token is taken to weigh on the wire, both ways."""
_BYTES_PER_GB = 1e9
_TOKENS_PER_PRICE = 1e6


def with_egress(prices: Prices, usd_per_gb: float) -> Prices:
    """Prices with what the network takes for requests and answers, as a part of every token's.

    So it is expected, set aside, booked and reconciled like any other cost.

    Args:
        prices: What the expert takes.
        usd_per_gb: Dollars per 1e9 bytes, >= 0.
    """
    if not usd_per_gb:
        return prices
    more = usd_per_gb * BYTES_PER_TOKEN * _TOKENS_PER_PRICE / _BYTES_PER_GB
    read, write = prices.cache_read, prices.cache_write
    return replace(
        prices,
        input=prices.input + more,
        output=prices.output + more,
        # What a provider has in its cache was sent all the same.
        cache_read=None if read is None else read + more,
        cache_write=None if write is None else write + more,
        source=f"{prices.source}, egress at ${usd_per_gb:g} per GB",
    )
