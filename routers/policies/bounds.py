"""Greedy on a bound of what is expected: hopeful where an expert is little known, or wary."""

from __future__ import annotations

from dataclasses import dataclass

from routers.policies.greedy import on_the_best, utilities
from routers.records import Candidates, Floats, Preference


@dataclass(frozen=True, slots=True)
class OptimisticPolicy:
    """The highest utility if every quality were `stderrs` standard errors better: u + k · stderr.

    Who is little known gets asked, and is known better afterwards; with `stderrs=0` it is greedy.

    Source: Li, Chu, Langford & Schapire, "A Contextual-Bandit Approach to Personalized News Article
    Recommendation" (LinUCB), 2010.
    """

    name = "optimistic"

    stderrs: float = 1.0

    def distribution(self, candidates: Candidates, preference: Preference) -> tuple[Floats, Floats]:
        utility_A = utilities(candidates, preference) + self.stderrs * candidates.stderr_A
        return on_the_best(utility_A, candidates, preference), utility_A


@dataclass(frozen=True, slots=True)
class PessimisticPolicy:
    """The highest utility if every quality were `stderrs` standard errors worse: u - k · stderr.

    Of many noisy estimates the highest is mostly too high (the winner's curse), and most so for
    experts that are little known; this one prefers those that are sure.

    Source: Jin, Yang & Wang, "Is Pessimism Provably Efficient for Offline RL?", 2021.
    """

    name = "pessimistic"

    stderrs: float = 1.0

    def distribution(self, candidates: Candidates, preference: Preference) -> tuple[Floats, Floats]:
        utility_A = utilities(candidates, preference) - self.stderrs * candidates.stderr_A
        return on_the_best(utility_A, candidates, preference), utility_A
