"""A table of quality per region of the request space and expert, shrunk where data is thin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from routers.estimators.newcomer import NewcomerSurplus, mean_of_pool, ratio
from routers.estimators.observed import Observed
from routers.records import Floats, Region, State

STRENGTH = 20.0
_NAMED = 3


@dataclass(frozen=True, slots=True, eq=False)
class PrototypeTable:
    r"""Quality of each expert in each of `R` regions, by empirical Bayes.

    .. math:: \mu_{ra} = \frac{n_{ra} \bar y_{ra} + s (\mu_a + \delta_r)}{n_{ra} + s}

    An expert with few outcomes in a region is taken to be as good there as the pool would have one
    expect: its own mean, moved by how much easier δ the region is for everybody.

    Attributes:
        mean_RA: The table μ, in [0, 1].
        stderr_RA: Its standard error.
        pool_A: Each expert's mean over all regions: the row for a request that fits no region.
    """

    mean_RA: Floats
    stderr_RA: Floats
    pool_A: Floats

    @classmethod
    def of(cls, membership_NR: Floats, outcomes: Observed, strength: float = STRENGTH) -> Self:
        """The table of regions with the memberships given (0 or 1, or shares of each row)."""
        weight_NA, score_NA, pool_A = outcomes.weight_NA, outcomes.score_NA, outcomes.mean_A
        mass_RA = membership_NR.T @ weight_NA
        total_RA = membership_NR.T @ (weight_NA * score_NA)
        squares_RA = (membership_NR**2).T @ weight_NA**2
        effective_RA = ratio(mass_RA**2, squares_RA)
        local_RA = ratio(total_RA, mass_RA)
        surplus_RA = np.where(mass_RA > 0, effective_RA * (local_RA - pool_A), 0.0)
        ease_R1 = surplus_RA.sum(axis=1, keepdims=True) / (
            effective_RA.sum(axis=1, keepdims=True) + strength
        )
        prior_RA = np.clip(pool_A + ease_R1, 0.0, 1.0)
        mean_RA = (effective_RA * local_RA + strength * prior_RA) / (effective_RA + strength)
        # Scores in [0, 1] vary at most as a coin of the same mean does.
        stderr_RA = np.sqrt(mean_RA * (1 - mean_RA) / (effective_RA + strength))
        return cls(mean_RA, stderr_RA, pool_A)

    def mix(self, share_NR: Floats) -> tuple[Floats, Floats]:
        """Quality and its standard error, each (N, A), for requests partly in several regions."""
        return share_NR @ self.mean_RA, np.sqrt(share_NR**2 @ self.stderr_RA**2)

    def spread(self) -> Floats:
        """How far an expert's quality is from its mean, where the region is unknown, shape (A,)."""
        squared_RA = (self.mean_RA - self.pool_A) ** 2 + self.stderr_RA**2
        spread_A: Floats = np.sqrt(squared_RA.mean(axis=0))
        return spread_A

    def with_expert(self, place: int, member_PR: Floats, probes: Observed) -> Self:
        """The table with a column more, at `place`: a new expert by its lower confidence bound.

        Args:
            place: Where the column goes.
            member_PR: Share of each probe in each region, rows summing to 1.
            probes: Outcomes of the new expert alone.
        """
        pool_R, pool_1 = mean_of_pool(self.mean_RA), mean_of_pool(self.pool_A[None])
        local = NewcomerSurplus.of(member_PR, probes, member_PR @ pool_R)
        everywhere_P1 = np.ones((len(member_PR), 1))
        overall = NewcomerSurplus.of(everywhere_P1, probes, everywhere_P1 @ pool_1)
        return type(self)(
            np.insert(self.mean_RA, place, local.bound(pool_R), axis=1),
            np.insert(self.stderr_RA, place, local.stderr_R, axis=1),
            np.insert(self.pool_A, place, overall.bound(pool_1)),
        )

    def without_expert(self, place: int) -> Self:
        """The table without the column at `place`."""
        return type(self)(
            np.delete(self.mean_RA, place, axis=1),
            np.delete(self.stderr_RA, place, axis=1),
            np.delete(self.pool_A, place),
        )

    def regions(
        self, share_R: Floats, names: Sequence[str], columns: Mapping[str, int]
    ) -> tuple[Region, ...]:
        """The regions that a request belongs to, the likeliest first; few by name, the rest in one.

        Args:
            share_R: Of one request, summing to 1.
            names: Of the regions, length R.
            columns: Expert to its column; of whom nothing is known is left out.
        """
        known = {one: at for one, at in columns.items() if not np.isnan(self.pool_A[at])}
        order = np.argsort(-share_R, kind="stable")
        found: list[Region] = []
        for rows in (*order[:_NAMED, None], order[_NAMED:]):
            share = float(share_R[rows].sum())
            if share > 0:
                mean_A = share_R[rows] @ self.mean_RA[rows] / share
                name = names[rows[0]] if len(found) < _NAMED else "(all others)"
                quality = {expert: float(mean_A[at]) for expert, at in known.items()}
                found.append(Region(name, share, quality))
        return tuple(found)

    def state(self) -> State:
        return {}, {"mean": self.mean_RA, "stderr": self.stderr_RA, "pool": self.pool_A}

    @classmethod
    def from_state(cls, state: State) -> Self:
        return cls(state[1]["mean"], state[1]["stderr"], state[1]["pool"])
