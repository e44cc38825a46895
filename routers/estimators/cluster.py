"""Quality from tables over clusters of the requests: no task labels needed."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from routers.estimators.observed import observed
from routers.estimators.region_table import Reading, RegionTable
from routers.estimators.regions import Regions, k_means
from routers.records import Estimates, FeatureBatch, Floats, OutcomeTable, Reasons, State
from routers.states import fitted, join_states, part_state

_ROWS_PER_CLUSTER = 20


class ClusterEstimator:
    """k-means tables, averaged over several seeds because each by itself depends on its seed.

    A request belongs to its nearest clusters with weights softmax(sharpness · cosine), and expects
    the same mixture of their rows.

    Args:
        clusters: Clusters per seed; fewer on a table with under 20 rows for each.
        seeds: How many clusterings are averaged.
        nearest: How many clusters of each a request may belong to.
        sharpness: How fast membership falls with cosine similarity.
        aggregation: "mean" or "rank", see `Reading`.
        caution: How many standard errors below its mean a quality is put, >= 0.

    Source: Zhang et al., "The Avengers: A Simple Recipe for Uniting Smaller Language Models to
    Challenge Proprietary Giants", 2025.
    """

    name = "cluster"

    def __init__(
        self,
        clusters: int = 32,
        seeds: int = 5,
        nearest: int = 3,
        sharpness: float = 20.0,
        aggregation: str = "mean",
        caution: float = 0.0,
    ) -> None:
        self.clusters = clusters
        self.seeds = seeds
        self.nearest = nearest
        self.sharpness = sharpness
        self.reading = Reading(aggregation, caution)
        self._parts: RegionTable | None = None

    def fit(self, features: FeatureBatch, table: OutcomeTable, rng: np.random.Generator) -> Self:
        outcomes = observed(features, table)
        count = max(1, min(self.clusters, len(table) // _ROWS_PER_CLUSTER))
        centres = [k_means(features.vectors_ND, count, rng) for _ in range(self.seeds)]
        regions = Regions(np.stack(centres), self.nearest, self.sharpness)
        return self._with(RegionTable.of(regions, features, outcomes, table, self.reading))

    def predict(self, features: FeatureBatch) -> Estimates:
        return fitted(self._parts).estimates(features)

    def quality(self, features: FeatureBatch) -> tuple[Floats, Floats]:
        """Expected score and its standard error, each (N, A); NaN unknown, not clipped."""
        return fitted(self._parts).quality(features)

    def reasons(self, features: FeatureBatch, chosen: str, other: str) -> Reasons:
        return fitted(self._parts).reasons("cluster", features, chosen, other)

    def add_expert(
        self, expert: str, features: FeatureBatch, probes: OutcomeTable, description: str = ""
    ) -> Self:
        return self._with(fitted(self._parts).with_expert(expert, features, probes))

    def remove_expert(self, expert: str) -> Self:
        return self._with(fitted(self._parts).without_expert(expert))

    def state(self) -> State:
        return join_states((self._settings(), {}), {"parts": fitted(self._parts).state()})

    @classmethod
    def from_state(cls, state: State) -> Self:
        settings = {name: value for name, value in state[0].items() if name != "parts"}
        return cls(**settings)._with(RegionTable.from_state(part_state(state, "parts")))

    def _settings(self) -> dict[str, Any]:
        return {
            "clusters": self.clusters,
            "seeds": self.seeds,
            "nearest": self.nearest,
            "sharpness": self.sharpness,
            "aggregation": self.reading.aggregation,
            "caution": self.reading.caution,
        }

    def _with(self, parts: RegionTable) -> Self:
        result = type(self)(**self._settings())
        result._parts = parts
        return result
