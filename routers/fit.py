"""From a table of outcomes to a router."""

from __future__ import annotations

from routers.records import OutcomeTable
from routers.router import Router


def fit_router(
    name: str,
    estimator: str,
    table: OutcomeTable,
    *,
    seed: int,
    encoder: str = "tfidf",
    epsilon: float = 0.0,
    calibrate: bool = True,
) -> Router:
    """Train a router. The same table and seed give the same version, in whatever row order.

    Args:
        name: What the config and the ledger will call it.
        estimator: A name that `make_estimator` knows.
        table: Outcomes to learn from.
        seed: Source of all randomness.
        encoder: A name that `make_encoder` knows.
        epsilon: Share of the traffic that explores, in [0, 1].
        calibrate: Whether predictions are corrected by isotonic regression, out of fold.

    Raises:
        TableError: Fewer than two experts, or no score observed.
        RoutingError: Unknown estimator or encoder.
    """
    raise NotImplementedError
