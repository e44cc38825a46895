"""Linear regression per expert around the pool's: what Thompson sampling draws from."""

from __future__ import annotations

import numpy as np

from routers.estimators.linucb import LinUcbEstimator
from routers.estimators.posterior import LinearSums
from routers.records import Floats

_TINY = np.finfo(np.float64).tiny


class ThompsonEstimator(LinUcbEstimator):
    r"""A Gaussian posterior N(θ_a, σ_a² A_a⁻¹), whose prior mean is what the pool has in common.

    Everything is as in `LinUcbEstimator` but θ₀, which has a slope: that of the first fit's scores
    of all experts together, as far as the slopes of single experts point the same way (times their
    mean cosine, not below 0). A request that is hard for everybody is then expected to be hard for
    an expert that was asked little, too. A policy that samples takes quality and stderr as the mean
    and the standard deviation of the posterior at the request.

    Source: Agrawal & Goyal, "Thompson Sampling for Contextual Bandits with Linear Payoffs", 2013;
    a learned prior mean after Panda et al., "Adaptive LLM Routing under Budget Constraints"
    (PILOT), 2025.
    """

    name = "thompson"

    def _prior(self, sums: LinearSums) -> Floats:
        flat_P = super()._prior(sums)
        precision_P = self._precision(len(flat_P))
        worth_A = sums.worth_A
        gram_PP = np.einsum("a,apq->pq", worth_A, sums.gram_APP) + np.diag(precision_P)
        pooled_P = np.linalg.solve(gram_PP, worth_A @ sums.moment_AP + precision_P * flat_P)
        alone_PA = sums.posterior(flat_P, precision_P).slope_PA[:-1, sums.mass_A > 0]
        prior_P: Floats = flat_P + _mean_cosine(alone_PA) * (pooled_P - flat_P)
        return prior_P


def _mean_cosine(slope_PA: Floats) -> float:
    """Of all pairs of columns, at least 0; a column of zeros is at right angles to all."""
    count = int(slope_PA.shape[1])
    unit_PA = slope_PA / np.maximum(np.sqrt((slope_PA**2).sum(axis=0)), _TINY)
    alike = float((unit_PA.sum(axis=1) ** 2).sum() - (unit_PA**2).sum())
    cosine: float = alike / max(count * (count - 1), 1)
    return max(0.0, cosine)
