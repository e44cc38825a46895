"""Quality from tables over clusters of the requests: no task labels needed."""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np

from routers.estimators.observed import observed
from routers.estimators.region_table import Reading, RegionEstimator, RegionTable
from routers.estimators.regions import Regions, k_means
from routers.records import FeatureBatch, OutcomeTable

_ROWS_PER_CLUSTER = 20


class ClusterEstimator(RegionEstimator):
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
    settings: ClassVar[tuple[str, ...]] = (
        "clusters",
        "seeds",
        "nearest",
        "sharpness",
        "aggregation",
        "caution",
    )

    def __init__(
        self,
        clusters: int = 32,
        seeds: int = 5,
        nearest: int = 3,
        sharpness: float = 20.0,
        aggregation: str = "mean",
        caution: float = 0.0,
    ) -> None:
        super().__init__()
        self.clusters = clusters
        self.seeds = seeds
        self.nearest = nearest
        self.sharpness = sharpness
        self.aggregation = aggregation
        self.caution = caution

    def fit(self, features: FeatureBatch, table: OutcomeTable, rng: np.random.Generator) -> Self:
        reading = Reading(self.aggregation, self.caution)
        outcomes = observed(features, table)
        count = max(1, min(self.clusters, len(table) // _ROWS_PER_CLUSTER))
        centres = [k_means(features.vectors_ND, count, rng) for _ in range(self.seeds)]
        regions = Regions(np.stack(centres), self.nearest, self.sharpness)
        return self._with(RegionTable.of(regions, features, outcomes, table, reading))
