"""Quality from tables over clusters of the requests: no task labels needed."""

from __future__ import annotations

from typing import Self

import numpy as np
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from routers.estimators.effort import EffortModel
from routers.estimators.observed import observed
from routers.estimators.prototype import PrototypeTable
from routers.records import Estimates, FeatureBatch, Floats, OutcomeTable, State, Vectors
from routers.states import fitted, join_states, part_state

_ROWS_PER_CLUSTER = 20
_CLUSTERED_ROWS = 4000


class ClusterEstimator:
    """k-means tables, averaged over several seeds because each by itself depends on its seed.

    A request belongs to its nearest clusters with weights softmax(sharpness · cosine), and expects
    the same mixture of their rows.

    Args:
        clusters: Clusters per seed; fewer on a table with under 20 rows for each.
        seeds: How many clusterings are averaged.
        nearest: How many clusters of each a request may belong to.
        sharpness: How fast membership falls with cosine similarity.

    Source: Zhang et al., "The Avengers: A Simple Recipe for Uniting Smaller Language Models to
    Challenge Proprietary Giants", 2025.
    """

    name = "cluster"

    def __init__(
        self, clusters: int = 32, seeds: int = 5, nearest: int = 3, sharpness: float = 20.0
    ) -> None:
        self.clusters = clusters
        self.seeds = seeds
        self.nearest = nearest
        self.sharpness = sharpness
        self._centres_SRD: Vectors = np.zeros((0, 0, 0), dtype=np.float32)
        self._table: PrototypeTable | None = None
        self._effort: EffortModel | None = None

    def fit(self, features: FeatureBatch, table: OutcomeTable, rng: np.random.Generator) -> Self:
        outcomes = observed(features, table)
        result = type(self)(self.clusters, self.seeds, self.nearest, self.sharpness)
        count = max(1, min(self.clusters, len(table) // _ROWS_PER_CLUSTER))
        result._centres_SRD = np.stack(
            [_centres(features.vectors_ND, count, rng) for _ in range(self.seeds)]
        )
        alike_NSR = result._alike(features.vectors_ND)
        nearest_NS1 = alike_NSR.argmax(axis=2)[:, :, None]
        own_NSR = (np.arange(count) == nearest_NS1).astype(np.float64)
        result._table = PrototypeTable.of(own_NSR.reshape(len(table), -1), outcomes)
        result._effort = EffortModel().fit(features, table)
        return result

    def predict(self, features: FeatureBatch) -> Estimates:
        table, effort = fitted(self._table), fitted(self._effort)
        share_NSR = self._shares(self._alike(features.vectors_ND))
        seeds, count, _ = self._centres_SRD.shape
        flat_NR = share_NSR.reshape(len(features), seeds * count) / seeds
        quality_NA, stderr_NA = table.mix(flat_NR)
        # The same outcomes fill the tables of every seed, so averaging them makes none surer.
        return effort.estimates(features, quality_NA, stderr_NA * np.sqrt(seeds))

    def state(self) -> State:
        params = {
            "clusters": self.clusters,
            "seeds": self.seeds,
            "nearest": self.nearest,
            "sharpness": self.sharpness,
        }
        parts = {"table": fitted(self._table).state(), "effort": fitted(self._effort).state()}
        return join_states((params, {"centres": self._centres_SRD}), parts)

    @classmethod
    def from_state(cls, state: State) -> Self:
        params, arrays = state
        result = cls(params["clusters"], params["seeds"], params["nearest"], params["sharpness"])
        result._centres_SRD = arrays["centres"]
        result._table = PrototypeTable.from_state(part_state(state, "table"))
        result._effort = EffortModel.from_state(part_state(state, "effort"))
        return result

    def _alike(self, vectors_ND: Vectors) -> Floats:
        seeds, count, width = self._centres_SRD.shape
        flat_ND = self._centres_SRD.reshape(seeds * count, width)
        alike_NR = (vectors_ND @ flat_ND.T).astype(np.float64)
        return alike_NR.reshape(len(vectors_ND), seeds, count)

    def _shares(self, alike_NSR: Floats) -> Floats:
        count = alike_NSR.shape[2]
        last = max(count - self.nearest, 0)
        least_NS1 = np.partition(alike_NSR, last, axis=2)[:, :, last : last + 1]
        top_NS1 = alike_NSR.max(axis=2, keepdims=True)
        share_NSR = np.exp(self.sharpness * (alike_NSR - top_NS1)) * (alike_NSR >= least_NS1)
        normal_NSR: Floats = share_NSR / share_NSR.sum(axis=2, keepdims=True)
        return normal_NSR


def _centres(vectors_ND: Vectors, count: int, rng: np.random.Generator) -> Vectors:
    rows = rng.permutation(len(vectors_ND))[:_CLUSTERED_ROWS]
    kmeans = KMeans(count, n_init=1, random_state=int(rng.integers(2**31)))
    # Threads add up in whatever order they finish, and the same seed must give the same centres.
    with threadpool_limits(limits=1):
        kmeans.fit(vectors_ND[np.sort(rows)].astype(np.float64))
    centres_RD = kmeans.cluster_centers_
    norms_R1 = np.maximum(np.linalg.norm(centres_RD, axis=1, keepdims=True), 1e-12)
    unit_RD: Vectors = (centres_RD / norms_R1).astype(np.float32)
    return unit_RD
