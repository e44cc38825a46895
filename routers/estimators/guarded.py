"""A wrapper that falls back to the general expert on requests unlike all that was learned from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from routers.base import Estimator
from routers.estimators.observed import observed
from routers.records import Estimates, FeatureBatch, Floats, OutcomeTable, State, Vectors
from routers.registry import DEFAULT_ESTIMATOR, estimator_class, make_estimator
from routers.storage.states import fitted, join_states, part_state

_NEIGHBOURS = 10
_MOST_ROWS = 2000
_BLOCK = 256
_FEWEST_ALIKE = 20


class GuardedEstimator:
    """The wrapped estimator on familiar requests, each expert's overall mean on others.

    A request is unfamiliar when the mean cosine of its ten nearest logged queries is below that of
    all but 1 % of these queries themselves, each compared with the others (and not with those of
    its group). What was learned says nothing there, and choosing by it is choosing at random; the
    best expert over all is the better guess. Such estimates are marked (`unfamiliar_N`), and the
    decision carries the flag "unfamiliar".

    Args:
        inner: The estimator to wrap, unfitted; None takes the default one.
        share: Share of the logged queries that would be called unfamiliar, in [0, 1).
    """

    name = "guarded"

    def __init__(self, inner: Estimator | None = None, share: float = 0.01) -> None:
        self.inner = inner or make_estimator(DEFAULT_ESTIMATOR)
        self.share = share
        self._memory_DN: Vectors | None = None
        self._least_alike = -1.0
        self._pool_A: Floats = np.zeros(0)
        self._spread_A: Floats = np.zeros(0)

    def fit(self, features: FeatureBatch, table: OutcomeTable, rng: np.random.Generator) -> Self:
        outcomes = observed(features, table)
        result = type(self)(self.inner.fit(features, table, rng), self.share)
        rows = np.sort(rng.permutation(len(features))[:_MOST_ROWS])
        known = features.take(rows)
        groups = [table.groups[row] for row in rows]
        result._memory_DN = np.ascontiguousarray(known.vectors_ND.T)
        alike_N = _alike_others(known.vectors_ND, groups)
        result._least_alike = float(np.quantile(alike_N, self.share)) if self.share else -1.0
        result._pool_A = outcomes.mean_A
        quality_NA = result.inner.predict(known).quality_NA
        variance_A = ((quality_NA - outcomes.mean_A) ** 2).mean(axis=0)
        count_A = np.maximum((outcomes.weight_NA > 0).sum(axis=0), 1)
        doubt_A = (outcomes.mean_A * (1 - outcomes.mean_A) + 1 / count_A) / count_A
        result._spread_A = np.sqrt(variance_A + doubt_A)
        return result

    def predict(self, features: FeatureBatch) -> Estimates:
        found = self.inner.predict(features)
        unfamiliar_N = self.unfamiliar(features)
        if not unfamiliar_N.any():
            return found
        lost_N1 = unfamiliar_N[:, None]
        return replace(
            found,
            quality_NA=np.where(lost_N1, self._pool_A, found.quality_NA),
            stderr_NA=np.where(lost_N1, self._spread_A, found.stderr_NA),
            unfamiliar_N=unfamiliar_N,
        )

    def unfamiliar(self, features: FeatureBatch) -> npt.NDArray[np.bool_]:
        """Which requests are unlike all that was learned from, shape (N,)."""
        memory_DN = fitted(self._memory_DN)
        unfamiliar_N = np.empty(len(features), dtype=bool)
        for start in range(0, len(features), _BLOCK):
            block = slice(start, start + _BLOCK)
            near_B = _mean_of_nearest(features.vectors_ND[block] @ memory_DN)
            unfamiliar_N[block] = near_B < self._least_alike
        return unfamiliar_N

    def suggested_categories(
        self, features: FeatureBatch, fewest: int = _FEWEST_ALIKE
    ) -> list[npt.NDArray[np.intp]]:
        """Groups of unfamiliar requests that are like each other: tasks worth collecting for.

        Two requests are alike when their cosine is at least what a familiar request has to its
        neighbours; a group is all that are alike by way of others.

        Args:
            features: Requests that were served, familiar or not.
            fewest: Smallest group worth naming.

        Returns:
            Rows of `features` by group, the largest group first.
        """
        rows = np.flatnonzero(self.unfamiliar(features))
        alike_UU = features.vectors_ND[rows] @ features.vectors_ND[rows].T
        # Only an offline job needs it, and it takes longer to load than a gateway to start.
        from scipy.sparse import csr_matrix
        from scipy.sparse.csgraph import connected_components

        count, group_U = connected_components(csr_matrix(alike_UU >= self._least_alike))
        groups = [rows[group_U == group] for group in range(count)]
        return sorted((each for each in groups if len(each) >= fewest), key=len, reverse=True)

    def state(self) -> State:
        params = {
            "kind": self.inner.name,
            "share": self.share,
            "least_alike": self._least_alike,
        }
        arrays: dict[str, npt.NDArray[Any]] = {
            "memory": fitted(self._memory_DN).T,
            "pool": self._pool_A,
            "spread": self._spread_A,
        }
        return join_states((params, arrays), {"inner": self.inner.state()})

    @classmethod
    def from_state(cls, state: State) -> Self:
        params, arrays = state
        inner = estimator_class(params["kind"]).from_state(part_state(state, "inner"))
        result = cls(inner, params["share"])
        result._memory_DN = np.ascontiguousarray(arrays["memory"].T)
        result._least_alike = params["least_alike"]
        result._pool_A, result._spread_A = arrays["pool"], arrays["spread"]
        return result


def _alike_others(vectors_ND: Vectors, groups: Sequence[str]) -> Floats:
    """Likeness of each row to its nearest rows of other groups, shape (N,)."""
    _, group_N = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)
    alike_N = np.empty(len(vectors_ND))
    for start in range(0, len(vectors_ND), _BLOCK):
        block = slice(start, start + _BLOCK)
        alike_BN = vectors_ND[block] @ vectors_ND.T
        alike_BN[group_N[block, None] == group_N] = -1.0
        alike_N[block] = _mean_of_nearest(alike_BN)
    return alike_N


def _mean_of_nearest(alike_BN: Vectors) -> Floats:
    count = alike_BN.shape[1]
    nearest = min(_NEIGHBOURS, count)
    mean_B: Floats = np.partition(alike_BN, count - nearest, axis=1)[:, -nearest:].mean(axis=1)
    return mean_B
