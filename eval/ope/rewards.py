"""Models of what an answer is worth, fitted on rows other than those they speak of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from eval.ope.logged import Logged
from routers.estimators.folds import group_folds, others
from routers.records import FeatureBatch, Floats

_FOLDS = 5
_PENALTY = 5.0
_NO_IDEA = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Rewards:
    """What each answer was worth, and what was expected without looking at it.

    Attributes:
        score_NA: Observed scores, NaN elsewhere.
        cost_NA: Observed dollars, NaN elsewhere.
        score_model_NA: Expected score of every cell, in [0, 1]; no NaN.
        cost_model_NA: Expected dollars of every cell; NaN where an expert's cost was never seen.
    """

    score_NA: Floats
    cost_NA: Floats
    score_model_NA: Floats
    cost_model_NA: Floats

    def take(self, rows: npt.NDArray[np.intp]) -> Rewards:
        """The same of only `rows`, in that order."""
        return Rewards(
            self.score_NA[rows],
            self.cost_NA[rows],
            self.score_model_NA[rows],
            self.cost_model_NA[rows],
        )


def rewards(logged: Logged, features: FeatureBatch, rng: np.random.Generator) -> Rewards:
    """Fit the models across folds, whole conversations left out together.

    A ridge regression per expert, quick and of fixed strength: doubly robust values are right
    whatever the model is, and a better one would only make them a little surer.

    Args:
        logged: What was seen.
        features: One row per row of the log.
        rng: Decides the folds.
    """
    table = logged.table
    score_NA = np.full(table.score_NA.shape, _NO_IDEA)
    cost_NA = np.full(table.score_NA.shape, np.nan)
    design_ND = _design(features)
    for fold in group_folds(table.groups, _FOLDS, rng):
        known = others(fold, len(table))
        chance_NA, fit_ND, asked_ND = table.propensity_NA[known], design_ND[known], design_ND[fold]
        seen_NA = table.score_NA[known]
        otherwise = float(np.nanmean(seen_NA)) if np.isfinite(seen_NA).any() else _NO_IDEA
        scores_NA = _regressed(fit_ND, seen_NA, chance_NA, asked_ND)
        score_NA[fold] = np.clip(np.where(np.isnan(scores_NA), otherwise, scores_NA), 0.0, 1.0)
        costs_NA = _regressed(fit_ND, table.cost_usd_NA[known], chance_NA, asked_ND)
        cost_NA[fold] = np.maximum(costs_NA, 0.0)
    return Rewards(table.score_NA, table.cost_usd_NA, score_NA, cost_NA)


def _design(features: FeatureBatch) -> Floats:
    log_N = np.log(features.prompt_tokens_N)
    spread = float(log_N.std()) or 1.0
    length_N1 = (log_N - log_N.mean())[:, None] / spread
    return np.hstack([features.vectors_ND.astype(np.float64), length_N1])


def _regressed(design_ND: Floats, seen_NA: Floats, chance_NA: Floats, asked_ND: Floats) -> Floats:
    """Predictions for `asked_ND`, column by column; NaN for an expert that was never seen."""
    found_NA = np.full((len(asked_ND), seen_NA.shape[1]), np.nan)
    for expert in range(seen_NA.shape[1]):
        rows = np.flatnonzero(~np.isnan(seen_NA[:, expert]))
        if len(rows):
            weight_N = 1 / chance_NA[rows, expert]
            weight_N /= weight_N.mean()
            slope_D, base = _ridge(design_ND[rows], seen_NA[rows, expert], weight_N)
            found_NA[:, expert] = asked_ND @ slope_D + base
    return found_NA


def _ridge(
    design_ND: Floats, target_N: Floats, weight_N: Floats
) -> tuple[npt.NDArray[np.float64], float]:
    total = weight_N.sum()
    mean_D, mean = weight_N @ design_ND / total, float(weight_N @ target_N / total)
    centred_ND = design_ND - mean_D
    weighted_DN = (centred_ND * weight_N[:, None]).T
    gram_DD = weighted_DN @ centred_ND + _PENALTY * np.eye(design_ND.shape[1])
    slope_D = np.linalg.solve(gram_DD, weighted_DN @ (target_N - mean))
    return slope_D, mean - float(mean_D @ slope_D)
