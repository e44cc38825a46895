"""Top-p: the smallest set of experts that is likely enough to hold the best one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from routers.policies.softmax import SoftmaxPolicy
from routers.records import Candidates, Floats, Preference

# Sums of floats that should be equal are not quite.
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class TopPPolicy:
    """The softmax policy without its long tail: drawn from the smallest set with Σp ≥ `mass`.

    A request that one expert is clearly best for goes to it alone; the less sure, the more experts
    have a chance. `top_p` is that set for whoever wants to ask all of it.

    Source: Huang et al., "Harder Tasks Need More Experts: Dynamic Routing in MoE Models", 2024.

    Attributes:
        mass: τ, the probability that the set must hold, in (0, 1].
        temperature: Of the softmax before, in quality points; > 0.
    """

    name = "top_p"

    mass: float = 0.8
    temperature: float = 0.05

    def __post_init__(self) -> None:
        SoftmaxPolicy(self.temperature)
        _check(self.mass)

    def distribution(self, candidates: Candidates, preference: Preference) -> tuple[Floats, Floats]:
        softmax = SoftmaxPolicy(self.temperature)
        probabilities_A, utility_A = softmax.distribution(candidates, preference)
        kept_A = np.zeros(len(probabilities_A))
        chosen = list(top_p(probabilities_A, self.mass, candidates.experts))
        kept_A[chosen] = probabilities_A[chosen]
        return kept_A / kept_A.sum(), utility_A


def top_p(probabilities_A: Floats, tau: float, ids: tuple[str, ...] = ()) -> tuple[int, ...]:
    """The fewest indices whose probabilities sum to at least `tau`, the likeliest first.

    Args:
        probabilities_A: A distribution, shape (A,).
        tau: In (0, 1].
        ids: What settles ties, length A; the indices themselves when there are none.

    Raises:
        ValueError: `tau` is outside (0, 1].
    """
    _check(tau)
    values = probabilities_A.tolist()
    order = sorted(range(len(values)), key=lambda i: (-values[i], ids[i] if ids else i))
    taken: list[int] = []
    total = 0.0
    for index in order:
        taken.append(index)
        total += values[index]
        if total >= tau - _ROUNDING:
            break
    return tuple(taken)


def _check(tau: float) -> None:
    if not 0 < tau <= 1:
        raise ValueError(f"the mass of a set must be in (0, 1], got {tau!r}")
