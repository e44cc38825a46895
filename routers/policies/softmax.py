"""The softmax policy: every expert has a chance, the better the more."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from routers.policies.greedy import good_enough, utilities
from routers.records import Candidates, Floats, Preference


@dataclass(frozen=True, slots=True)
class SoftmaxPolicy:
    """p ∝ exp(utility / temperature), over those that reach the preference's `min_quality`.

    It explores where little is lost by it, and its propensities are exact by their formula.

    Source: Bridle, "Training Stochastic Model Recognition Algorithms as Networks", 1990; as a
    bandit's rule: Sutton & Barto, "Reinforcement Learning", 2nd ed., 2018, section 2.8.

    Attributes:
        temperature: Difference of utilities, in quality points, that makes one expert e times as
            likely as another; > 0.
    """

    name = "softmax"

    temperature: float = 0.05

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"the temperature must be > 0, got {self.temperature!r}")

    def distribution(self, candidates: Candidates, preference: Preference) -> tuple[Floats, Floats]:
        utility_A = utilities(candidates, preference)
        among_A = good_enough(candidates, preference)
        return softmax(np.where(among_A, utility_A, -np.inf), self.temperature), utility_A


def softmax(utility_A: Floats, temperature: float) -> Floats:
    """exp(u / temperature), scaled to sum to 1, shape (A,); -inf gets nothing."""
    # Without the largest, so that nothing overflows.
    odds_A = np.exp((utility_A - utility_A.max()) / temperature)
    probabilities_A: Floats = odds_A / odds_A.sum()
    return probabilities_A
