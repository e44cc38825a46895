"""The score of RouterArena, which weighs accuracy against cost on a logarithmic scale."""

from __future__ import annotations

import numpy as np

from routers.records import Floats

DEAREST_USD, CHEAPEST_USD = 200.0, 0.0044
"""Dollars per 1,000 queries that count as nothing and as everything saved."""

_COST_SHARE = 0.1


def arena_score(quality: Floats | float, cost_usd: Floats | float) -> Floats:
    r"""A weighted harmonic mean of accuracy and thrift, in [0, 1].

    .. math:: S = \frac{(1 + \beta) A C}{\beta A + C}, \quad
        C = \frac{\log_2 200 - \log_2 c}{\log_2 200 - \log_2 0.0044}, \quad \beta = 0.1

    Args:
        quality: Accuracy A in [0, 1], any shape.
        cost_usd: Dollars per query, same shape; c is this per 1,000 queries, clamped.

    Returns:
        NaN where either is unknown; 0 where both parts are 0.

    Source: RouterArena, https://github.com/RouteWorks/RouterArena (its formula and constants).
    """
    usd = np.clip(1000 * np.asarray(cost_usd, dtype=np.float64), CHEAPEST_USD, DEAREST_USD)
    thrift = np.log2(DEAREST_USD / usd) / np.log2(DEAREST_USD / CHEAPEST_USD)
    quality = np.asarray(quality, dtype=np.float64)
    bottom = _COST_SHARE * quality + thrift
    top = (1 + _COST_SHARE) * quality * thrift
    score: Floats = np.divide(top, bottom, out=np.zeros_like(top), where=bottom != 0)
    return score
