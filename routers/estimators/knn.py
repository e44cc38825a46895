"""Quality from the nearest logged queries, softly weighted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import orjson

from routers.estimators.effort import EffortModel
from routers.estimators.folds import group_folds, others
from routers.estimators.observed import Observed, choice_error, observed
from routers.records import (
    Estimates,
    FeatureBatch,
    Floats,
    Neighbour,
    OutcomeTable,
    Reasons,
    State,
    Vectors,
)
from routers.storage.states import fitted, join_states, part_state

_BLOCK = 256
_FOLDS = 5
_JUDGED_ROWS = 3000
_CANDIDATES = (10, 25, 50, 100, 200, 400)
_DEFAULT_K = 100
_LEAST_WEIGHT = 1e-5
_NAMED = 5
_TINY = np.finfo(np.float64).tiny


@dataclass(frozen=True, slots=True, eq=False)
class _Memory:
    """The logged queries, and per query the sums that a weighted mean is made of.

    Attributes:
        vectors_DN: One vector per query, in columns: the product with a single row of this layout
            takes a fifth less time, whatever the alignment.
        outcomes: What was observed.
        moments_NM: w, w·y, w·y² and w² side by side, shape (N, 4A).
        prior_2A: Each expert's mean score and the largest variance a score of that mean can have.
    """

    vectors_DN: Vectors
    outcomes: Observed
    moments_NM: Floats
    prior_2A: Floats

    @classmethod
    def of(cls, vectors_ND: Vectors, outcomes: Observed) -> Self:
        weight_NA, score_NA = outcomes.weight_NA, outcomes.score_NA
        parts = [weight_NA, weight_NA * score_NA, weight_NA * score_NA**2, weight_NA**2]
        prior_2A = np.stack([outcomes.mean_A, outcomes.mean_A * (1 - outcomes.mean_A)])
        return cls(np.ascontiguousarray(vectors_ND.T), outcomes, np.hstack(parts), prior_2A)

    def take(self, rows: npt.NDArray[np.intp]) -> _Memory:
        return _Memory.of(self.vectors_DN.T[rows], self.outcomes.take(rows))


class KnnEstimator:
    r"""Regression of each expert's score on its k nearest logged queries.

    .. math:: \hat q_a(x) = \frac{n_a \bar y_a + s\,\mu_a}{n_a + s}, \quad
        w_{ia} = (e^{\beta z_i \cdot z} - e^{\beta z_k \cdot z}) / p_{ia}

    where the neighbours' observed scores have weighted mean ȳ and effective number n, and μ is the
    expert's mean over everything. It never classifies the best expert: where several are equally
    right, the label that such a classifier learns is arbitrary.

    Args:
        k: Neighbours; None picks the number by cross-validation.
        sharpness: β, how fast weight falls with cosine similarity.
        shrinkage: s > 0, how many neighbours the expert's overall mean counts as.
        most_rows: Of a larger table a random sample is remembered, to keep decisions fast.
    """

    name = "knn"

    def __init__(
        self,
        k: int | None = None,
        sharpness: float = 3.0,
        shrinkage: float = 10.0,
        most_rows: int = 20_000,
    ) -> None:
        self.k = k
        self.sharpness = sharpness
        self.shrinkage = shrinkage
        self.most_rows = most_rows
        self._memory: _Memory | None = None
        self._query_ids: tuple[str, ...] = ()
        self._effort: EffortModel | None = None

    def fit(self, features: FeatureBatch, table: OutcomeTable, rng: np.random.Generator) -> Self:
        memory = _Memory.of(features.vectors_ND, observed(features, table))
        groups = np.asarray(table.groups, dtype=object)
        ids = np.asarray(table.query_ids, dtype=object)
        if len(table) > self.most_rows:
            rows = np.sort(rng.choice(len(table), self.most_rows, replace=False))
            memory, groups, ids = memory.take(rows), groups[rows], ids[rows]
        k = self.k or self._best_k(memory, groups.tolist(), rng)
        result = type(self)(k, self.sharpness, self.shrinkage, self.most_rows)
        result._memory = memory
        result._query_ids = tuple(ids.tolist())
        result._effort = EffortModel().fit(features, table)
        return result

    def predict(self, features: FeatureBatch) -> Estimates:
        return fitted(self._effort).estimates(features, *self.quality(features))

    def quality(self, features: FeatureBatch) -> tuple[Floats, Floats]:
        """Expected score and its standard error, each (N, A); NaN unknown, not clipped."""
        memory, k = fitted(self._memory), self.k or _DEFAULT_K
        quality_NA = np.empty((len(features), len(memory.outcomes.mean_A)))
        stderr_NA = np.empty_like(quality_NA)
        for block, near_BK, alike_BK in _nearest(features.vectors_ND, memory.vectors_DN, k):
            quality_NA[block], stderr_NA[block] = self._local_mean(memory, near_BK, alike_BK)
        return quality_NA, stderr_NA

    def reasons(self, features: FeatureBatch, chosen: str, other: str) -> Reasons:
        memory, experts = fitted(self._memory), fitted(self._effort).experts
        columns = {one: experts.index(one) for one in (chosen, other) if one in experts}
        ((_, near_1K, alike_1K),) = _nearest(
            features.vectors_ND, memory.vectors_DN, self.k or _DEFAULT_K
        )
        kernel_K = _kernel_and_square(alike_1K, self.sharpness)[0, 0]
        share_K = kernel_K / kernel_K.sum()
        seen, score_NA = memory.outcomes.weight_NA > 0, memory.outcomes.score_NA
        neighbours = [
            Neighbour(
                self._query_ids[row],
                float(alike_1K[0, place]),
                float(share_K[place]),
                {name: float(score_NA[row, at]) for name, at in columns.items() if seen[row, at]},
            )
            for place in np.argsort(-alike_1K[0], kind="stable")[:_NAMED]
            for row in [int(near_1K[0, place])]
        ]
        return Reasons(neighbours=tuple(neighbours))

    def state(self) -> State:
        memory = fitted(self._memory)
        params = {
            "k": self.k,
            "sharpness": self.sharpness,
            "shrinkage": self.shrinkage,
            "most_rows": self.most_rows,
        }
        arrays: dict[str, npt.NDArray[Any]] = {
            "vectors": memory.vectors_DN.T,
            "score": memory.outcomes.score_NA,
            "weight": memory.outcomes.weight_NA,
            "mean": memory.outcomes.mean_A,
            "query_ids": np.frombuffer(orjson.dumps(self._query_ids), dtype=np.uint8),
        }
        return join_states((params, arrays), {"effort": fitted(self._effort).state()})

    @classmethod
    def from_state(cls, state: State) -> Self:
        params, arrays = state
        result = cls(params["k"], params["sharpness"], params["shrinkage"], params["most_rows"])
        outcomes = Observed(arrays["score"], arrays["weight"], arrays["mean"])
        result._memory = _Memory.of(arrays["vectors"], outcomes)
        result._query_ids = tuple(orjson.loads(arrays["query_ids"].tobytes()))
        result._effort = EffortModel.from_state(part_state(state, "effort"))
        return result

    def _local_mean(
        self, memory: _Memory, near_BK: npt.NDArray[np.intp], alike_BK: Vectors
    ) -> tuple[Floats, Floats]:
        """Shrunk mean of the neighbours' scores and its standard error, each (B, A)."""
        kernel_B2K = _kernel_and_square(alike_BK, self.sharpness)
        shape = (len(near_BK), 2, 4, len(memory.outcomes.mean_A))
        sums_B24A = (kernel_B2K @ memory.moments_NM.take(near_BK, axis=0)).reshape(shape)
        mass_BA, squared_mass_BA = sums_B24A[:, 0, 0], sums_B24A[:, 1, 3]
        # Where nothing weighs anything, the other sums are 0 too.
        means_B2A = sums_B24A[:, 0, 1:3] / np.maximum(mass_BA, _TINY)[:, None]
        effective_BA = mass_BA * mass_BA / np.maximum(squared_mass_BA, _TINY)
        local_BA = means_B2A[:, 0]
        variance_BA = np.maximum(means_B2A[:, 1] - local_BA * local_BA, 0.0)
        mean_A, variance_A = self.shrinkage * memory.prior_2A
        strength_BA = effective_BA + self.shrinkage
        quality_BA = (effective_BA * local_BA + mean_A) / strength_BA
        return quality_BA, np.sqrt(effective_BA * variance_BA + variance_A) / strength_BA

    def _best_k(self, memory: _Memory, groups: list[str], rng: np.random.Generator) -> int:
        folds = group_folds(groups, _FOLDS, rng)
        candidates = [k for k in _CANDIDATES if k < len(groups) / 2]
        if not folds or not candidates:
            return min(_DEFAULT_K, len(groups))
        errors_k = np.zeros(len(candidates))
        for fold in folds:
            judged = np.sort(rng.permutation(fold)[: _JUDGED_ROWS // len(folds)])
            errors_k += self._errors(memory, others(fold, len(groups)), judged, candidates)
        return candidates[int(np.argmin(errors_k))]

    def _errors(
        self,
        memory: _Memory,
        known: npt.NDArray[np.intp],
        judged: npt.NDArray[np.intp],
        candidates: list[int],
    ) -> Floats:
        """Error on the rows `judged` with the rows `known` as memory, for each candidate k."""
        part = memory.take(known)
        truth = memory.outcomes.take(judged)
        predicted_kNA = np.empty((len(candidates), *truth.score_NA.shape))
        queries_ND = memory.vectors_DN.T[judged]
        for block, near_BK, alike_BK in _nearest(queries_ND, part.vectors_DN, candidates[-1]):
            order_BK = np.argsort(-alike_BK, axis=1)
            first_BK = np.take_along_axis(near_BK, order_BK, axis=1)
            falling_BK = np.take_along_axis(alike_BK, order_BK, axis=1)
            for index, k in enumerate(candidates):
                local = self._local_mean(part, first_BK[:, :k], falling_BK[:, :k])
                predicted_kNA[index, block] = local[0]
        return np.array([choice_error(predicted_NA, truth) for predicted_NA in predicted_kNA])


def _nearest(
    queries_ND: Vectors, vectors_DN: Vectors, k: int
) -> Iterator[tuple[slice, npt.NDArray[np.intp], Vectors]]:
    """Block by block of queries: the k nearest rows, in any order, and their likeness."""
    count = vectors_DN.shape[1]
    k = min(k, count)
    for start in range(0, len(queries_ND), _BLOCK):
        block = slice(start, start + _BLOCK)
        alike_BN = queries_ND[block] @ vectors_DN
        near_BK = np.argpartition(alike_BN, count - k, axis=1)[:, -k:]
        yield block, near_BK, alike_BN[np.arange(len(near_BK))[:, None], near_BK]


def _kernel_and_square(alike_BK: Vectors, sharpness: float) -> Floats:
    """Weight of each neighbour and the square of it, shape (B, 2, K)."""
    both_B2K = np.empty((len(alike_BK), 2, alike_BK.shape[1]))
    kernel_BK = both_B2K[:, 0]
    kernel_BK[...] = alike_BK
    kernel_BK -= np.maximum.reduce(kernel_BK, axis=1, keepdims=True)
    kernel_BK *= sharpness
    np.exp(kernel_BK, out=kernel_BK)
    # The weight runs out at the k-th neighbour: which of equally near rows comes k-th is chance,
    # and must not matter. The rest keeps a query whose neighbours are all equally near from having
    # none.
    kernel_BK -= np.minimum.reduce(kernel_BK, axis=1, keepdims=True) - _LEAST_WEIGHT
    np.multiply(kernel_BK, kernel_BK, out=both_B2K[:, 1])
    return both_B2K
