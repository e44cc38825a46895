"""Quality from tables around pilots: where, within a task, one expert beats the others."""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt

from routers.estimators.observed import Observed, observed
from routers.estimators.region_table import Reading, RegionEstimator, RegionTable
from routers.estimators.regions import Regions, k_means, unit_rows
from routers.records import FeatureBatch, Floats, OutcomeTable, Vectors

_FEWEST_VOTES = 10
_ROWS_PER_CLUSTER = 20
_MOST_CLUSTERS = 32


class PilotEstimator(RegionEstimator):
    """Score-weighted pilot embeddings.

    Within each task, the queries that one expert wins by a margin vote for it, and their centroid
    is a pilot. Where RouterRetriever sends a request to the winner of the nearest pilot, a pilot
    here carries the mean score of every expert, over all queries that are nearest to it: of many
    experts that are equally right the winner is arbitrary, and whoever won a query was right on it
    by selection. So an expert comes and goes as a column, without training.

    Logs in which each query has one answer have no winners; then k-means centres stand in.

    Args:
        margin: By how much the best score of a query must exceed the second for it to vote, > 0.
        nearest: How many pilots a request may belong to.
        sharpness: How fast membership falls with cosine similarity.
        caution: How many standard errors below its mean a quality is put, >= 0.

    Source: Lee et al., "RouterRetriever: Routing over a Mixture of Expert Embedding Models",
    AAAI 2025.
    """

    name = "pilot"
    settings: ClassVar[tuple[str, ...]] = ("margin", "nearest", "sharpness", "caution")

    def __init__(
        self,
        margin: float = 0.1,
        nearest: int = 3,
        sharpness: float = 20.0,
        caution: float = 0.0,
    ) -> None:
        super().__init__()
        self.margin = margin
        self.nearest = nearest
        self.sharpness = sharpness
        self.caution = caution

    def fit(self, features: FeatureBatch, table: OutcomeTable, rng: np.random.Generator) -> Self:
        outcomes = observed(features, table)
        votes_N = winners(outcomes, self.margin)
        pilots_RD = _pilots(features.vectors_ND, table, votes_N)
        if len(pilots_RD) < 2:
            count = max(1, min(_MOST_CLUSTERS, len(table) // _ROWS_PER_CLUSTER))
            pilots_RD = k_means(features.vectors_ND, count, rng)
        regions = Regions(pilots_RD[None], self.nearest, self.sharpness)
        reading = Reading(caution=self.caution)
        return self._with(RegionTable.of(regions, features, outcomes, table, reading))


def winners(outcomes: Observed, margin: float) -> npt.NDArray[np.intp]:
    """Column of the expert that beats all others on the query by `margin`, -1 where none does."""
    seen_NA = outcomes.weight_NA > 0
    if seen_NA.shape[1] < 2:
        return np.full(len(seen_NA), -1)
    score_NA = np.where(seen_NA, outcomes.score_NA, -1.0)
    second_N, best_N = np.sort(score_NA, axis=1)[:, -2:].T
    clear_N = (seen_NA.sum(axis=1) > 1) & (best_N - second_N >= margin)
    return np.where(clear_N, score_NA.argmax(axis=1), -1)


def _pilots(vectors_ND: Vectors, table: OutcomeTable, votes_N: npt.NDArray[np.intp]) -> Vectors:
    """Centroid of each task's queries that one expert won, ten or more, (R, D)."""
    tasks_N = np.array(["" if task is None else task for task in table.tasks])
    centroids: list[Floats] = []
    for task in np.unique(tasks_N):
        for expert in range(len(table.experts)):
            won_N = (tasks_N == task) & (votes_N == expert)
            if won_N.sum() >= _FEWEST_VOTES:
                centroids.append(vectors_ND[won_N].astype(np.float64).mean(axis=0))
    if not centroids:
        return np.zeros((0, vectors_ND.shape[1]), dtype=np.float32)
    return unit_rows(np.stack(centroids))
