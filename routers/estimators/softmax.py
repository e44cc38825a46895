"""A multinomial logistic classifier whose probabilities can be believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from sklearn.linear_model import LogisticRegression

from routers.estimators.folds import group_folds, others
from routers.records import Floats, State

Labels = npt.NDArray[np.intp]

_PENALTY_INVERSE = 10.0
_MOST_ITERATIONS = 2000
# A tenth of the usual tolerance would take twice as long and change the log loss by under .005.
_TOLERANCE = 1e-3
_HELD_OUT = 5
_TEMPERATURES = (0.1, 10.0)
_NEVER = -1e9


@dataclass(frozen=True, slots=True, eq=False)
class SoftmaxClassifier:
    """Class probabilities as a softmax of linear scores, scaled by a temperature.

    The temperature minimises the log loss of one held-out fifth of the groups (Guo et al., "On
    Calibration of Modern Neural Networks", 2017); the scores then come from all rows.

    Attributes:
        slope_DC: Coefficients per class.
        offset_C: Intercepts; a class never seen has one so low that its probability is 0.
        temperature: What scores are divided by, > 0.
    """

    slope_DC: Floats
    offset_C: Floats
    temperature: float = 1.0

    @classmethod
    def fit(
        cls,
        vectors_ND: Floats,
        labels_N: Labels,
        groups: Sequence[str],
        classes: int,
        rng: np.random.Generator,
    ) -> Self:
        """Learn from rows labelled 0 .. classes - 1.

        Args:
            vectors_ND: The rows.
            labels_N: Their classes.
            groups: Rows of one group are near-identical, and are held out together; length N.
            classes: How many, those that no row has included.
            rng: Decides what is held out.
        """
        final = cls._fit_scores(vectors_ND, labels_N, classes)
        folds = group_folds(groups, _HELD_OUT, rng)
        if not folds:
            return final
        held_out, known = folds[0], others(folds[0], len(labels_N))
        trial = cls._fit_scores(vectors_ND[known], labels_N[known], classes)
        return replace(
            final, temperature=trial._temperature(vectors_ND[held_out], labels_N[held_out])
        )

    def probabilities(self, vectors_ND: Floats) -> Floats:
        """P(class | vector), shape (N, C)."""
        scores_NC: Floats = (vectors_ND @ self.slope_DC + self.offset_C) / self.temperature
        scores_NC -= np.maximum.reduce(scores_NC, axis=1, keepdims=True)
        odds_NC = np.exp(scores_NC, out=scores_NC)
        odds_NC /= np.add.reduce(odds_NC, axis=1, keepdims=True)
        return odds_NC

    def state(self) -> State:
        arrays = {"slope": self.slope_DC, "offset": self.offset_C}
        return {"temperature": self.temperature}, arrays

    @classmethod
    def from_state(cls, state: State) -> Self:
        params, arrays = state
        return cls(arrays["slope"], arrays["offset"], params["temperature"])

    @classmethod
    def _fit_scores(cls, vectors_ND: Floats, labels_N: Labels, classes: int) -> Self:
        slope_DC = np.zeros((vectors_ND.shape[1], classes))
        offset_C = np.full(classes, _NEVER)
        present = np.unique(labels_N)
        if len(present) == 1:
            offset_C[present] = 0.0
            return cls(slope_DC, offset_C)
        model = LogisticRegression(C=_PENALTY_INVERSE, tol=_TOLERANCE, max_iter=_MOST_ITERATIONS)
        # Single precision takes half the time and changes the third digit of the log loss at most.
        model.fit(vectors_ND.astype(np.float32), labels_N)
        if len(present) == 2:
            slope_DC[:, present[1]], offset_C[present] = model.coef_[0], [0.0, model.intercept_[0]]
        else:
            slope_DC[:, present], offset_C[present] = model.coef_.T, model.intercept_
        return cls(slope_DC, offset_C)

    def _temperature(self, vectors_ND: Floats, labels_N: Labels) -> float:
        known_N = self.offset_C[labels_N] > _NEVER
        if not known_N.any():
            return 1.0
        vectors_ND, labels_N = vectors_ND[known_N], labels_N[known_N]

        def log_loss(log_temperature: float) -> float:
            scaled = replace(self, temperature=float(np.exp(log_temperature)))
            right_N = scaled.probabilities(vectors_ND)[np.arange(len(labels_N)), labels_N]
            return float(-np.log(np.maximum(right_N, np.finfo(np.float64).tiny)).mean())

        found = minimize_scalar(log_loss, bounds=np.log(_TEMPERATURES), method="bounded")
        return float(np.exp(found.x))
