"""What the soft preferences of a request take away from each expert, in quality points."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date

import numpy as np

from experts.cards import ExpertCard
from routers.errors import RoutingError
from routers.records import Floats

_UNKNOWN = float("nan")


def penalties(cards: Sequence[ExpertCard], prefer: Mapping[str, float]) -> Floats:
    """Sum over the flags of weight · distance from the pool's best, shape (A,), >= 0.

    Each distance is scaled to [0, 1] over the pool that is live for this request, so a weight means
    the same in any pool. What is unknown counts as the pool's worst.

    Args:
        cards: The eligible experts.
        prefer: Weight in quality points for `size` (small is better), `recency` (newly released
            is better) and `local` (on our own machines is better).

    Raises:
        RoutingError: A flag is unknown or its weight is negative; the message names it.
    """
    total_A = np.zeros(len(cards))
    for flag, weight in sorted(prefer.items()):
        if flag not in _DISTANCES:
            known = ", ".join(sorted(_DISTANCES))
            raise RoutingError(f"unknown soft preference {flag!r}; known are {known}")
        if not 0 <= weight < float("inf"):
            raise RoutingError(f"the weight of soft preference {flag!r} must be >= 0, got {weight}")
        total_A += weight * _scaled(np.array([_DISTANCES[flag](card) for card in cards]))
    return total_A


def _size(card: ExpertCard) -> float:
    known = [size for size in (card.params_total_b, card.params_active_b) if size is not None]
    return known[0] if known else _UNKNOWN


def _age(card: ExpertCard) -> float:
    try:
        return -float(date.fromisoformat(card.released).toordinal())
    except ValueError:
        return _UNKNOWN


def _distance(card: ExpertCard) -> float:
    return 0.0 if card.local else 1.0


_DISTANCES: Mapping[str, Callable[[ExpertCard], float]] = {
    "size": _size,
    "recency": _age,
    "local": _distance,
}


def _scaled(values_A: Floats) -> Floats:
    known_A = values_A[~np.isnan(values_A)]
    if not known_A.size:
        return np.zeros(len(values_A))
    low, high = known_A.min(), known_A.max()
    spread = high - low if high > low else 1.0
    return np.where(np.isnan(values_A), 1.0, (values_A - low) / spread)
