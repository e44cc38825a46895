"""What to expect of an expert that few outcomes speak for, so that admitting it does no harm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from routers.candidates import PRIOR_STDERR
from routers.errors import TableError
from routers.estimators.observed import Observed, observed_if_any
from routers.records import FeatureBatch, Floats, OutcomeTable

_STRENGTH = 20.0
# How many probes "as good as the pool" counts as, when the newcomer's offset from it is estimated.
_OFFSET_STRENGTH = 5.0
_UNKNOWN_POOL = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class NewcomerSurplus:
    r"""How a new expert compares with the pool, region by region, and how sure that is.

    .. math:: d_r = \frac{\sum_{i \in r} (y_i - \bar\mu(x_i)) + s \hat\delta}{n_r + s}, \quad
        q(x) = \bar\mu(x) + d_r - \sqrt{\frac{\mu_r (1 - \mu_r)}{n_r + s}}

    where μ̄ is the mean quality of the pool, δ̂ how much better than it the newcomer was on all its
    probes, and μ_r the newcomer's mean in the region. Of many experts' estimates the luckiest is
    the largest, and a newcomer's are the least certain: taken at its mean it is chosen where it
    was lucky, and costs up to several points of quality. δ̂ is drawn towards 0 as five probes would,
    so that one lucky answer makes no expert.

    Attributes:
        surplus_R: Quality points d by which the newcomer is above the pool.
        stderr_R: Its standard error, > 0; .25 where the newcomer has no probe at all.

    Source: Jitkrittum et al., "Universal Model Routing for Efficient LLM Inference", 2025, for
    the table row of a new model; the bound is ours.
    """

    surplus_R: Floats
    stderr_R: Floats

    @classmethod
    def of(cls, member_PR: Floats, probes: Observed, pool_P: Floats) -> NewcomerSurplus:
        """From probes with these memberships, and the mean quality of the pool on each.

        Args:
            member_PR: Share of each probe in each region, rows summing to 1.
            probes: Outcomes of the newcomer alone, (P, 1); may have no row.
            pool_P: Mean over the experts known before.
        """
        weight_P, score_P = probes.weight_NA[:, 0], probes.score_NA[:, 0]
        offset = weight_P @ (score_P - pool_P) / (weight_P.sum() + _OFFSET_STRENGTH)
        mass_R = weight_P @ member_PR
        effective_R = ratio(mass_R**2, weight_P**2 @ member_PR**2)
        local_R = ratio((weight_P * (score_P - pool_P)) @ member_PR, mass_R)
        strength_R = effective_R + _STRENGTH
        surplus_R = (effective_R * local_R + _STRENGTH * offset) / strength_R
        if not weight_P.any():
            return cls(surplus_R, np.full_like(surplus_R, PRIOR_STDERR))
        overall = weight_P @ pool_P / weight_P.sum()
        level_R = np.where(mass_R > 0, ratio((weight_P * pool_P) @ member_PR, mass_R), overall)
        likely_R = np.clip(level_R + surplus_R, 0.0, 1.0)
        # Right on every probe, or on none, is no certainty: as if it had been both once more.
        doubtful_R = (likely_R * strength_R + 1) / (strength_R + 2)
        return cls(surplus_R, np.sqrt(doubtful_R * (1 - doubtful_R) / strength_R))

    def bound(self, pool_R: Floats) -> Floats:
        """Lower confidence bound in each region where the pool has this mean, in [0, 1]."""
        return np.maximum(np.minimum(pool_R + self.surplus_R, 1.0) - self.stderr_R, 0.0)


def probes_of(
    expert: str, known: Sequence[str], features: FeatureBatch, probes: OutcomeTable
) -> Observed:
    """Outcomes of a new expert, checked; there may be none.

    Raises:
        TableError: It is known already, the table isn't about it alone, the rows don't match the
            features, or a value is out of range.
    """
    if expert in known:
        raise TableError(f"expert {expert!r} is known already; remove it first to admit it anew")
    if probes.experts != (expert,):
        raise TableError(
            f"probes of expert {expert!r} must be outcomes of it alone, this table is about "
            f"{', '.join(map(repr, probes.experts)) or 'nobody'}"
        )
    return observed_if_any(features, probes)


def mean_of_pool(quality_NA: Floats) -> Floats:
    """Mean over the experts of which something is known, shape (N,); .5 where of none."""
    known_NA = ~np.isnan(quality_NA)
    count_N = known_NA.sum(axis=1)
    total_N = np.where(known_NA, quality_NA, 0.0).sum(axis=1)
    unknown_N = np.full(len(quality_NA), _UNKNOWN_POOL)
    mean_N: Floats = np.divide(total_N, count_N, out=unknown_N, where=count_N > 0)
    return mean_N


def ratio(above_R: Floats, below_R: Floats) -> Floats:
    """Above / below, 0 where below is 0."""
    return np.divide(above_R, below_R, out=np.zeros_like(above_R), where=below_R > 0)
