"""Quality as a logistic function of the vector, one regression per expert."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from routers.estimators.effort import EffortModel
from routers.estimators.folds import group_folds, others
from routers.estimators.logits import Logits, RotatedRows
from routers.estimators.observed import Observed, choice_error, observed
from routers.records import Estimates, FeatureBatch, Floats, Linear, OutcomeTable, Reasons, State
from routers.storage.states import fitted, join_states, part_state

_HELD_OUT = 3
_CANDIDATES = (30.0, 10.0, 3.0, 1.0)
_DEFAULT_PENALTY = 3.0


class LogisticEstimator:
    r"""Penalised logistic regression of each expert's observed scores.

    .. math:: \hat q_a(x) = \sigma(o_a + s_a^\top (z - \bar z_a))

    minimising the weighted log loss plus penalty/2 · |s_a|² (a Gaussian prior); scores between 0
    and 1 are targets as they are. Experts that were observed on the same rows are fitted together.
    The standard error is that of the fitted mean, by the delta method.

    Args:
        penalty: The same for every expert; None picks it on a third of the groups, held out.

    Source: the plug-in estimator of CARROT (Somerstep et al., "CARROT: A Cost Aware Rate Optimal
    Router", 2025), whose regressor of output tokens all estimators here share.
    """

    name = "logistic"

    def __init__(self, penalty: float | None = None) -> None:
        self.penalty = penalty
        self._curves: _Curves | None = None
        self._effort: EffortModel | None = None

    def fit(self, features: FeatureBatch, table: OutcomeTable, rng: np.random.Generator) -> Self:
        outcomes = observed(features, table)
        vectors_ND = features.vectors_ND.astype(np.float64)
        penalty = self.penalty or _best_penalty(vectors_ND, outcomes, table.groups, rng)
        result = type(self)(penalty)
        result._curves = _Curves.of(
            RotatedRows.alike(vectors_ND, outcomes), len(table.experts), penalty
        )
        result._effort = EffortModel().fit(features, table)
        return result

    def predict(self, features: FeatureBatch) -> Estimates:
        quality_NA, stderr_NA = fitted(self._curves).predict(features.vectors_ND.astype(np.float64))
        return fitted(self._effort).estimates(features, quality_NA, stderr_NA)

    def reasons(self, features: FeatureBatch, chosen: str, other: str) -> Reasons:
        experts = fitted(self._effort).experts
        if not {chosen, other} <= set(experts):
            return Reasons()
        pair = [experts.index(chosen), experts.index(other)]
        line = fitted(self._curves).difference(pair[0], pair[1])
        return Reasons() if np.isnan(line.baseline) else Reasons(linear=line)

    def state(self) -> State:
        curves = fitted(self._curves)
        own = {"penalty": self.penalty}, {name: getattr(curves, name) for name in _FIELDS}
        return join_states(own, {"effort": fitted(self._effort).state()})

    @classmethod
    def from_state(cls, state: State) -> Self:
        result = cls(state[0]["penalty"])
        result._curves = _Curves(*(state[1][name] for name in _FIELDS))
        result._effort = EffortModel.from_state(part_state(state, "effort"))
        return result


@dataclass(frozen=True, slots=True, eq=False)
class _Curves:
    """Fitted regressions. `G` groups of experts that were observed on the same rows.

    Attributes:
        group_A: Which group an expert belongs to.
        centre_GD: Mean vector of the group's rows.
        axes_GDD: The axes of its rows.
        slope_DA: Coefficients in the axes of the vector.
        offset_A: Logit at the centre; NaN for an expert never observed.
        spread_DA: Variance of each coefficient, in the axes of the group.
        base_A: Variance of the offset.
    """

    group_A: npt.NDArray[np.int64]
    centre_GD: Floats
    axes_GDD: Floats
    slope_DA: Floats
    offset_A: Floats
    spread_DA: Floats
    base_A: Floats

    @classmethod
    def of(cls, groups: list[RotatedRows], experts: int, penalty: float) -> Self:
        width = len(groups[0].centre_D)
        group_A = np.zeros(experts, dtype=np.int64)
        slope_DA, spread_DA = np.zeros((width, experts)), np.zeros((width, experts))
        offset_A, base_A = np.full(experts, np.nan), np.full(experts, np.nan)
        for index, rows in enumerate(groups):
            members, line = rows.members, rows.fit(penalty)
            group_A[members], offset_A[members] = index, line.offset_M
            slope_DA[:, members] = rows.axes_DD @ line.slope_DM
            spread_DA[:, members] = 1 / (rows.values_D[:, None] * line.curve_M + penalty)
            base_A[members] = 1 / (rows.weight_N.sum() * line.curve_M)
        centre_GD = np.stack([rows.centre_D for rows in groups])
        axes_GDD = np.stack([rows.axes_DD for rows in groups])
        return cls(group_A, centre_GD, axes_GDD, slope_DA, offset_A, spread_DA, base_A)

    def predict(self, vectors_ND: Floats) -> tuple[Floats, Floats]:
        shift_A = np.einsum("ad,da->a", self.centre_GD[self.group_A], self.slope_DA)
        quality_NA = expit(vectors_ND @ self.slope_DA + (self.offset_A - shift_A))
        variance_NA = np.empty_like(quality_NA)
        for group, (centre_D, axes_DD) in enumerate(
            zip(self.centre_GD, self.axes_GDD, strict=True)
        ):
            members = self.group_A == group
            squared_ND = ((vectors_ND - centre_D) @ axes_DD) ** 2
            variance_NA[:, members] = squared_ND @ self.spread_DA[:, members]
        stderr_NA = quality_NA * (1 - quality_NA) * np.sqrt(variance_NA + self.base_A)
        return quality_NA, stderr_NA

    def difference(self, chosen: int, other: int) -> Linear:
        """Log-odds of one expert less those of another, around the mean vector of the first."""
        mean_D = self.centre_GD[self.group_A[chosen]]
        away_D = mean_D - self.centre_GD[self.group_A[other]]
        there = self.offset_A[other] + away_D @ self.slope_DA[:, other]
        slope_D = self.slope_DA[:, chosen] - self.slope_DA[:, other]
        return Linear(slope_D, mean_D, float(self.offset_A[chosen] - there), "log-odds")


_FIELDS = tuple(field.name for field in fields(_Curves))


def _best_penalty(
    vectors_ND: Floats, outcomes: Observed, groups: tuple[str, ...], rng: np.random.Generator
) -> float:
    folds = group_folds(groups, _HELD_OUT, rng)
    if not folds:
        return _DEFAULT_PENALTY
    held_out, known = folds[0], others(folds[0], len(groups))
    groups_of_rows = RotatedRows.alike(vectors_ND[known], outcomes.take(known))
    turned = [rows.turn(vectors_ND[held_out]) for rows in groups_of_rows]
    lines: list[Logits | None] = [None] * len(groups_of_rows)
    truth, errors = outcomes.take(held_out), []
    # From strong to weak, each from where the last one ended.
    for penalty in _CANDIDATES:
        predicted_NA = np.full(truth.score_NA.shape, np.nan)
        for place, rows in enumerate(groups_of_rows):
            line = lines[place] = rows.fit(penalty, lines[place])
            predicted_NA[:, rows.members] = expit(turned[place] @ line.slope_DM + line.offset_M)
        errors.append(choice_error(predicted_NA, truth))
    return _CANDIDATES[int(np.argmin(errors))]
