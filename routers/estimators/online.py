"""A logistic head per expert that learns on step by step, and notices when its expert changes."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from scipy.special import expit

from routers.estimators.drift import Alarm, PageHinkley
from routers.estimators.effort import EffortModel
from routers.estimators.logits import RotatedRows
from routers.estimators.observed import observed
from routers.estimators.stream import Directions, arrived
from routers.records import Estimates, FeatureBatch, Floats, OutcomeTable, State
from routers.storage.states import fitted, join_states, part_state

_PENALTY = 1.0
_LEAST_CURVE = 0.02
# What an expert that was never observed is taken to have been asked, when its first row comes.
_STARTING_ROWS = 20.0
_MOST_ERROR = 0.5
_TINY = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class _Heads:
    """Logits as linear functions of P whitened directions and a constant, and how sure they are.

    Attributes:
        slope_AP: Coefficients, shape (A, P + 1); NaN for an expert never observed.
        curve_A: Running mean of p (1 - p).
        rows_A: Rows that the head remembers: its rate of learning falls with them.
        idle_A: Requests since it was last observed.
        start_P: Coefficients that an expert begins with.
    """

    slope_AP: Floats
    curve_A: Floats
    rows_A: Floats
    idle_A: Floats
    start_P: Floats

    def copy(self) -> Self:
        return type(self)(*(getattr(self, name).copy() for name in _FIELDS))


_FIELDS = tuple(field.name for field in fields(_Heads))


class OnlineHeadsEstimator:
    r"""Sigmoid heads on whitened principal directions, one step per outcome.

    .. math:: p = \sigma(\theta_a^\top x), \quad
        \theta_a \leftarrow \theta_a + \frac{w (y - p)}{h_a (n_a + w |x|^2)} x, \quad
        n_a \leftarrow \gamma n_a + w

    with h the mean of p (1 - p). Several experts may be right at once: each head has a target of
    its own (multi-hot), where a softmax would make the experts compete for one. Only heads whose
    answer was scored learn. The first fit is a penalised logistic regression. Residuals y - p
    are watched by a Page-Hinkley test per expert; when it sounds, the head's n falls to `restart`
    rows, so that it learns fast again and its standard error grows. The error also grows while an
    expert isn't asked. Propensity weights are cut off at 10. Expected tokens and latency stay
    those of the first fit.

    Args:
        directions: How many principal directions of the text's vector are looked at.
        keep: Share of n that is kept at each row of the expert, in (0, 1]; 1 never forgets.
        restart: Rows that a head remembers after an alarm, > 0.
        alarm: When a head's residuals have moved.

    Source: "DriftMoE: A Mixture of Experts Approach to Handle Concept Drifts", 2025.
    """

    name = "online"

    def __init__(
        self,
        directions: int = 32,
        keep: float = 0.9995,
        restart: float = 50.0,
        alarm: Alarm | None = None,
    ) -> None:
        self.directions = directions
        self.keep = keep
        self.restart = restart
        self.alarm = alarm or Alarm()
        self.experts: tuple[str, ...] = ()
        self._directions: Directions | None = None
        self._heads: _Heads | None = None
        self._watch: PageHinkley | None = None
        self._effort: EffortModel | None = None

    def fit(self, features: FeatureBatch, table: OutcomeTable, rng: np.random.Generator) -> Self:
        outcomes = observed(features, table)
        result = self._blank(table.experts)
        result._directions = Directions.of(features.vectors_ND, self.directions, whiten=True)
        rows_NP = result._directions.of_rows(features.vectors_ND)
        count = len(table.experts)
        slope_AP, curve_A = np.full((count, rows_NP.shape[1]), np.nan), np.full(count, 0.25)
        for rows in RotatedRows.alike(rows_NP[:, :-1], outcomes):
            line = rows.fit(_PENALTY)
            slope_DM = rows.axes_DD @ line.slope_DM
            slope_AP[rows.members, :-1] = slope_DM.T
            slope_AP[rows.members, -1] = line.offset_M - rows.centre_D @ slope_DM
            curve_A[rows.members] = np.maximum(line.curve_M, _LEAST_CURVE)
        start_P = np.zeros(rows_NP.shape[1])
        start_P[-1] = np.nanmean(slope_AP[:, -1])
        rows_A = _even_rows(outcomes.weight_NA)
        result._heads = _Heads(slope_AP, curve_A, rows_A, np.zeros(count), start_P)
        result._watch = PageHinkley.fresh(count)
        result._effort = EffortModel().fit(features, table)
        return result

    def partial_fit(
        self, features: FeatureBatch, table: OutcomeTable, rng: np.random.Generator
    ) -> Self:
        if self._heads is None:
            return self.fit(features, table, rng)
        score_NA, weight_NA = arrived(features, table, self.experts)
        rows_NP = fitted(self._directions).of_rows(features.vectors_ND)
        result = self._blank(self.experts)
        result._directions, result._effort = self._directions, self._effort
        result._heads, result._watch = self._heads.copy(), fitted(self._watch).copy()
        for row_P, score_A, weight_A in zip(rows_NP, score_NA, weight_NA, strict=True):
            result._learn(row_P, score_A, weight_A)
        return result

    def predict(self, features: FeatureBatch) -> Estimates:
        heads, rows_NP = fitted(self._heads), fitted(self._directions).of_rows(features.vectors_ND)
        quality_NA = expit(rows_NP @ heads.slope_AP.T)
        remembered_A = heads.rows_A * self.keep**heads.idle_A
        # A head of few rows that is sure of itself knows no better: two coin flips are added.
        wary_NA = (quality_NA * remembered_A + 1) / (remembered_A + 2)
        information_A = np.maximum(heads.curve_A * remembered_A, _TINY)
        length_N1 = (rows_NP * rows_NP).sum(axis=1, keepdims=True)
        stderr_NA = wary_NA * (1 - wary_NA) * np.sqrt(length_N1 / information_A)
        return fitted(self._effort).estimates(
            features, quality_NA, np.minimum(stderr_NA, _MOST_ERROR)
        )

    def state(self) -> State:
        heads, alarm = fitted(self._heads), self.alarm
        params = {
            "directions": self.directions,
            "keep": self.keep,
            "restart": self.restart,
            "alarm": [alarm.slack, alarm.threshold, alarm.least_rows],
            "experts": list(self.experts),
        }
        parts: dict[str, State] = {
            "axes": fitted(self._directions).state(),
            "heads": ({}, {name: getattr(heads, name) for name in _FIELDS}),
            "watch": ({}, fitted(self._watch).arrays()),
            "effort": fitted(self._effort).state(),
        }
        return join_states((params, {}), parts)

    @classmethod
    def from_state(cls, state: State) -> Self:
        params = state[0]
        alarm = Alarm(*params["alarm"])
        result = cls(params["directions"], params["keep"], params["restart"], alarm)
        result.experts = tuple(params["experts"])
        result._directions = Directions.from_state(part_state(state, "axes"))
        heads = part_state(state, "heads")[1]
        result._heads = _Heads(*(heads[name] for name in _FIELDS))
        result._watch = PageHinkley.from_arrays(part_state(state, "watch")[1])
        result._effort = EffortModel.from_state(part_state(state, "effort"))
        return result

    def _blank(self, experts: tuple[str, ...]) -> Self:
        result = type(self)(self.directions, self.keep, self.restart, self.alarm)
        result.experts = experts
        return result

    def _learn(self, row_P: Floats, score_A: Floats, weight_A: Floats) -> None:
        """One request and the scores of those who answered it, in place."""
        heads, watch = fitted(self._heads), fitted(self._watch)
        heads.idle_A[:] += 1
        seen = np.flatnonzero(weight_A)
        if not len(seen):
            return
        new = seen[np.isnan(heads.slope_AP[seen, 0])]
        heads.slope_AP[new], heads.rows_A[new] = heads.start_P, _STARTING_ROWS
        weight_S, sure_S = weight_A[seen], expit(heads.slope_AP[seen] @ row_P)
        off_S = score_A[seen] - sure_S
        remembered_S = heads.rows_A[seen]
        rate_S = weight_S / (heads.curve_A[seen] * (remembered_S + weight_S * (row_P @ row_P)))
        heads.slope_AP[seen] += (rate_S * off_S)[:, None] * row_P
        share_S = weight_S / (remembered_S + weight_S)
        curve_S = heads.curve_A[seen] + share_S * (sure_S * (1 - sure_S) - heads.curve_A[seen])
        heads.curve_A[seen] = np.maximum(curve_S, _LEAST_CURVE)
        heads.rows_A[seen] = self.keep * remembered_S + weight_S
        heads.idle_A[seen] = 0
        moved = watch.watch(seen, off_S, self.alarm)
        heads.rows_A[moved] = np.minimum(heads.rows_A[moved], self.restart)


def _even_rows(weight_NA: Floats) -> Floats:
    """As many rows of equal weight as tell what these tell (Kish), shape (A,)."""
    total_A, squared_A = weight_NA.sum(axis=0), (weight_NA**2).sum(axis=0)
    rows_A: Floats = np.zeros_like(total_A)
    np.divide(total_A**2, squared_A, out=rows_A, where=squared_A > 0)
    return rows_A
