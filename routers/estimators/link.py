"""From a similarity to a quality: one increasing curve for all experts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from routers.estimators.observed import Observed
from routers.records import Floats, State

_PRIOR_SLOPE = 3.0
_PRIOR_ROWS = 20.0
_STEPS = 25


@dataclass(frozen=True, slots=True)
class Link:
    r"""Logistic regression of scores on similarities, with a prior that similar is good.

    .. math:: l(s) = \sigma(b + a s), \quad \min_{a \ge 0,\, b}\; \sum w\, H(y, l(s))
        + \tfrac{n_0}{2} (a - a_0)^2 / 4

    The penalty is what 20 outcomes would weigh that say a = 3.

    Attributes:
        offset: b.
        slope: a >= 0: what matches a card is never taken to be worse for it.
    """

    offset: float
    slope: float

    @classmethod
    def fit(cls, alike_NA: Floats, outcomes: Observed) -> Self:
        """By Newton's method, over all observed pairs of request and expert."""
        seen_NA = outcomes.weight_NA > 0
        score_O, weight_O = outcomes.score_NA[seen_NA], outcomes.weight_NA[seen_NA]
        offset, slope = _newton(alike_NA[seen_NA], score_O, weight_O, _PRIOR_SLOPE)
        if slope < 0:
            # What is best with a slope of 0 is the mean.
            offset, slope = _newton(np.zeros(len(score_O)), score_O, weight_O, 0.0)
        return cls(offset, slope)

    def quality(self, alike_NA: Floats) -> Floats:
        """l, in (0, 1), same shape."""
        return _sigmoid(self.offset + self.slope * alike_NA)

    def state(self) -> State:
        return {"offset": self.offset, "slope": self.slope}, {}

    @classmethod
    def from_state(cls, state: State) -> Self:
        return cls(state[0]["offset"], state[0]["slope"])


def _newton(
    alike_O: Floats, score_O: Floats, weight_O: Floats, prior_slope: float
) -> tuple[float, float]:
    design_O2 = np.column_stack([np.ones(len(alike_O)), alike_O])
    prior_2 = np.array([0.0, prior_slope])
    found_2 = prior_2.copy()
    strength_2 = np.array([1e-3, 1.0]) * _PRIOR_ROWS / 4
    for _ in range(_STEPS):
        quality_O = _sigmoid(design_O2 @ found_2)
        pull_2 = design_O2.T @ (weight_O * (score_O - quality_O))
        bend_O = weight_O * quality_O * (1 - quality_O)
        bend_22 = (design_O2 * bend_O[:, None]).T @ design_O2 + np.diag(strength_2)
        step_2 = np.linalg.solve(bend_22, pull_2 - strength_2 * (found_2 - prior_2))
        # A step this long leaves the region where the curve is anything but flat.
        found_2 = found_2 + np.clip(step_2, -2.0, 2.0)
    return float(found_2[0]), float(found_2[1])


def _sigmoid(logits: Floats) -> Floats:
    quality: Floats = 1 / (1 + np.exp(-np.minimum(np.maximum(logits, -30.0), 30.0)))
    return quality
