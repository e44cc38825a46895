"""The capacity policy: experts that can take only a share of the traffic get dearer by it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np

from routers.allocation.assignment import sinkhorn
from routers.errors import TableError
from routers.fitting.practice import Practice
from routers.policies.greedy import good_enough, utilities
from routers.policies.softmax import softmax
from routers.records import Candidates, Floats, Preference


@dataclass(frozen=True, slots=True)
class CapacityPolicy:
    """p ∝ exp((u - v) / temperature), where the shadow price v keeps each expert within its share.

    The scarce expert goes to those requests that gain most from it, and not to whoever comes first.
    `fit` finds the prices by sharing out queries with known estimates
    (`routers.allocation.assignment`), so the shares hold on average for traffic like theirs.
    Unfitted, v is 0.

    Source: shadow prices of the transportation problem; see
    `routers.allocation.assignment.sinkhorn`.

    Attributes:
        shares: Most of the traffic that an expert gets, in (0, 1], by id; who is missing gets any.
        temperature: Of the draw, in quality points; > 0. It also divides requests that are alike.
        prices: v by id, in quality points; None before it is fitted.
    """

    name = "capacity"

    shares: Mapping[str, float] = field(default_factory=dict)
    temperature: float = 0.01
    prices: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"the temperature must be > 0, got {self.temperature!r}")
        for expert, share in self.shares.items():
            if not 0 < share <= 1:
                raise ValueError(f"the share of {expert!r} must be in (0, 1], got {share!r}")

    @property
    def is_fitted(self) -> bool:
        return self.prices is not None

    def distribution(self, candidates: Candidates, preference: Preference) -> tuple[Floats, Floats]:
        prices = self.prices or {}
        price_A = np.array([prices.get(expert, 0.0) for expert in candidates.experts])
        utility_A = utilities(candidates, preference) - price_A
        among_A = good_enough(candidates, preference)
        return softmax(np.where(among_A, utility_A, -np.inf), self.temperature), utility_A

    def fit(self, practice: Practice, preference: Preference) -> Self:
        for expert in self.shares:
            practice.column(expert)
        utility_NA = np.stack([utilities(query, preference) for query in practice.queries])
        share_A = np.array([self.shares.get(expert, 1.0) for expert in practice.experts])
        try:
            _, price_A = sinkhorn(utility_NA, share_A * len(practice), self.temperature)
        except ValueError as error:
            raise TableError(f"the shares leave traffic that nobody takes: {error}") from error
        prices = dict(zip(practice.experts, price_A.tolist(), strict=True))
        return replace(self, prices={name: price for name, price in prices.items() if price > 0})
