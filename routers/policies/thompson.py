"""Thompson sampling with exact propensities: each expert as often as it may be the best."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from routers.policies.greedy import good_enough, utilities
from routers.records import Candidates, Floats, Preference

_EDGES = 600
_FEWEST_EDGES = 9
_REACH = 6.0
# Someone known for certain would have all its mass on one point of a cell.
_LEAST_STDERR = 1e-4


@dataclass(frozen=True, slots=True)
class ThompsonPolicy:
    """p_m = P(utility of m is the highest), when each is normal around what is expected.

    Instead of drawing a utility for each expert and taking the highest, which leaves nobody knowing
    how likely that was, the probability itself is computed, by a sum over cells of the real line:
    p_m = Σ_c P(u_m in c) · Π_k≠m P(u_k < c). It is the one that is drawn from, and is logged.

    Source: Thompson, "On the likelihood that one unknown probability exceeds another in view of the
    evidence of two samples", 1933.

    Attributes:
        stderrs: How wide the normal distributions are, in standard errors; > 0. Less is greedier.
    """

    name = "thompson"

    stderrs: float = 1.0

    def __post_init__(self) -> None:
        if not self.stderrs > 0:
            raise ValueError(f"the width must be > 0 standard errors, got {self.stderrs!r}")
        # It takes longer to load than a gateway to start: now rather than with the first request.
        import scipy.special  # noqa: F401

    def distribution(self, candidates: Candidates, preference: Preference) -> tuple[Floats, Floats]:
        utility_A = utilities(candidates, preference)
        among_A = good_enough(candidates, preference)
        probabilities_A = np.zeros(len(utility_A))
        probabilities_A[among_A] = chances_of_being_best(
            utility_A[among_A], self.stderrs * candidates.stderr_A[among_A]
        )
        return probabilities_A, utility_A


def chances_of_being_best(mean_A: Floats, stderr_A: Floats) -> Floats:
    """P(i is the largest) of independent normal variables, shape (A,), summing to 1.

    Args:
        mean_A: Their means.
        stderr_A: Their standard deviations, >= 0; below 0.0001 they count as that.
    """
    from scipy.special import ndtr

    stderr_A = np.maximum(stderr_A, _LEAST_STDERR)
    # Cells as narrow as each distribution asks for; below the best lower end nobody is the best.
    place_P = np.linspace(-_REACH, _REACH, max(_EDGES // len(mean_A), _FEWEST_EDGES))
    edge_C = np.unique(mean_A[:, None] + stderr_A[:, None] * place_P)
    edge_C = edge_C[edge_C >= (mean_A - _REACH * stderr_A).max()]
    below_AC = ndtr((edge_C - mean_A[:, None]) / stderr_A[:, None])
    inside_AC = np.diff(below_AC, axis=1)
    # In the middle of a cell, and never 0, so that one factor can be divided out.
    middle_AC = np.maximum((below_AC[:, 1:] + below_AC[:, :-1]) / 2, np.finfo(np.float64).tiny)
    log_AC = np.log(middle_AC)
    chances_A = (inside_AC * np.exp(log_AC.sum(axis=0) - log_AC)).sum(axis=1)
    return np.asarray(chances_A / chances_A.sum())
