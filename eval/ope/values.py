r"""Estimators of the value of a candidate from what was logged, row by row.

With w = π / p over the observed cells (π the candidate's probability, p the chance of the
observation) and a model q̂ of the reward:

.. math::
    IPS_i = \sum_a w_{ia} r_{ia}, \quad DM_i = \sum_a \pi_{ia} \hat q_{ia}, \quad
    DR_i = DM_i + \sum_a w_{ia} (r_{ia} - \hat q_{ia})

SNIPS divides IPS by the mean of the weights. Shrunk versions replace w in the second term of DR by
something smaller where it is large, which trades a little bias for a lot of variance.

Sources: Dudík, Langford & Li, "Doubly robust policy evaluation and learning", 2011; Swaminathan &
Joachims, "The self-normalized estimator for counterfactual learning", 2015 (SNIPS); Wang, Agarwal &
Dudík, "Optimal and adaptive off-policy evaluation in contextual bandits", 2017 (Switch); Su et al.,
"Doubly robust off-policy evaluation with shrinkage", 2020 (DRos).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from eval.metrics.intervals import ratio
from eval.ope.logged import Logged
from routers.records import Floats

Shrink = Callable[[Floats], Floats]

CLIP_AT = 10.0
SWITCH_AT = 10.0
SHRINK_AT = 100.0
GENTLE = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """One reward under one candidate, taken apart.

    Attributes:
        weight_NA: w, 0 where nothing was observed.
        reward_NA: What was observed; 0 elsewhere.
        model_NA: q̂, out of fold; 0 where the candidate never goes.
        target_NA: π.
    """

    weight_NA: Floats
    reward_NA: Floats
    model_NA: Floats
    target_NA: Floats

    @classmethod
    def of(cls, logged: Logged, target_NA: Floats, reward_NA: Floats, model_NA: Floats) -> Parts:
        """Parts of the value of `target_NA` in terms of `reward_NA`.

        Args:
            logged: What was seen, and with which chance.
            target_NA: P(expert | request) of the candidate, rows sum to 1.
            reward_NA: What each observed answer was worth; NaN where it is not known.
            model_NA: What it is expected to be worth, from rows other than its own.
        """
        seen_NA = ~np.isnan(reward_NA)
        weight_NA = np.where(seen_NA, target_NA / logged.table.propensity_NA, 0.0)
        model_NA = np.where((target_NA > 0) | seen_NA, model_NA, 0.0)
        return cls(weight_NA, np.where(seen_NA, reward_NA, 0.0), model_NA, target_NA)

    @property
    def row_weights(self) -> Floats:
        """Weight of each row; 1 on average where the log has what the candidate needs."""
        total_N: Floats = self.weight_NA.sum(axis=1)
        return total_N

    def by_model(self) -> Floats:
        """DM, row by row."""
        total_N: Floats = (self.target_NA * self.model_NA).sum(axis=1)
        return total_N

    def corrected(self, shrink: Shrink | None = None) -> Floats:
        """DR, row by row, with weights shrunk or as they are."""
        weight_NA = self.weight_NA if shrink is None else shrink(self.weight_NA)
        correction_NA = weight_NA * (self.reward_NA - self.model_NA)
        total_N: Floats = self.by_model() + correction_NA.sum(axis=1)
        return total_N

    def weighted(self) -> Floats:
        """IPS, row by row."""
        total_N: Floats = (self.weight_NA * self.reward_NA).sum(axis=1)
        return total_N


@dataclass(frozen=True, slots=True, eq=False)
class RatioTerms:
    """A value as a ratio of means, from which its spread follows.

    Attributes:
        top_N: Mean above.
        bottom_N: Mean below; all 1 for an ordinary mean.
    """

    top_N: Floats
    bottom_N: Floats

    @property
    def value(self) -> float:
        """NaN where nothing weighs anything."""
        return float(ratio(self.top_N.sum(), self.bottom_N.sum()))

    @property
    def influence(self) -> Floats:
        """What each row moves the value by, times N; its mean is 0."""
        centred_N = self.top_N - self.value * self.bottom_N
        return ratio(centred_N, np.full_like(centred_N, self.bottom_N.mean()))


def _plain(rows_N: Floats) -> RatioTerms:
    return RatioTerms(rows_N, np.ones_like(rows_N))


def ips(parts: Parts) -> RatioTerms:
    """Inverse propensity scoring: unbiased, and as wide as the weights are."""
    return _plain(parts.weighted())


def snips(parts: Parts) -> RatioTerms:
    """IPS over the mean weight: a little biased, and never outside the range of the rewards."""
    return RatioTerms(parts.weighted(), parts.row_weights)


def dm(parts: Parts) -> RatioTerms:
    """The model alone: narrow, and as wrong as the model."""
    return _plain(parts.by_model())


def dr(parts: Parts) -> RatioTerms:
    """Doubly robust: unbiased when the propensities are right, narrow when the model is good."""
    return _plain(parts.corrected())


def clipped(weight_NA: Floats, at: float = CLIP_AT) -> Floats:
    """min(w, at)."""
    return np.minimum(weight_NA, at)


def switched(weight_NA: Floats, at: float = SWITCH_AT) -> Floats:
    """Leaves w where it is at most `at`, else 0: the model alone speaks there."""
    return np.where(weight_NA <= at, weight_NA, 0.0)


def optimistic(weight_NA: Floats, at: float = SHRINK_AT) -> Floats:
    """λw / (w² + λ): the shrinkage that minimises a bound on the error."""
    return at * weight_NA / (weight_NA**2 + at)


def gentle(weight_NA: Floats, by: float = GENTLE) -> Floats:
    """Gives w / (1 − λ + λw): between no weighting (λ = 1) and w itself (λ = 0)."""
    return weight_NA / (1 - by + by * weight_NA)


def _dr_with(shrink: Shrink, parts: Parts) -> RatioTerms:
    return _plain(parts.corrected(shrink))


ESTIMATORS: Mapping[str, Callable[[Parts], RatioTerms]] = {
    "dr": dr,
    "snips": snips,
    "ips": ips,
    "dm": dm,
    "dr_clipped": partial(_dr_with, clipped),
    "dr_switch": partial(_dr_with, switched),
    "dr_shrunk": partial(_dr_with, optimistic),
    "dr_gentle": partial(_dr_with, gentle),
}
"""By name; the first is the one that verdicts rest on."""
