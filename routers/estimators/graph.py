"""Quality by a graph network over tasks, queries and experts."""

from __future__ import annotations

from typing import Self

import numpy as np

from routers.estimators.effort import EffortModel
from routers.estimators.graph_model import GraphModel, GraphSettings, stderr_of
from routers.estimators.observed import observed
from routers.estimators.regions import k_means, unit_rows
from routers.records import Estimates, FeatureBatch, Floats, OutcomeTable, State, Vectors
from routers.storage.states import fitted, join_states, part_state
from routers.training.batches import Array
from routers.training.graph import Anchored, Anchoring
from routers.training.losses import LOSSES

_ROWS_PER_TASK = 20
_COUNTED_ROWS = 1000
_NEAREST = 3
_SHARPNESS = 20.0


class GraphEstimator:
    r"""Predicts the edges between queries and experts in a graph of both and of tasks.

    .. math:: \hat q_a(x) = \sigma(\mathrm{logit}\,\mu_a + h_x^\top R\, e_a)

    Experts are known by their edges alone (scores and lengths of answers), not by name. Tasks are
    the task labels, or clusters where there are none, each embedded as the mean vector of its
    queries; a query hangs on its three nearest. In training the queries of a batch have no edges
    to experts, nor have those of their groups: they are attached as new ones are in service, for
    which the states of tasks and experts are computed once. Training takes torch, prediction does
    not. The state `R` is read out with starts at 0: with nothing to learn, each expert's mean
    stands.

    Unlike the original it regresses the score and does not classify the best expert, and no prices
    are on its edges: lengths of answers are.

    Args:
        hidden: Width of a node's state.
        clusters: Tasks where the table has no labels, at least 20 rows each.
        epochs: The most passes over the table.
        context: How many rows messages come from at each step of training.

    Source: Feng et al., "GraphRouter: A Graph-based Router for LLM Selections", ICLR 2025.
    """

    name = "graph"
    slow = True

    def __init__(
        self, hidden: int = 32, clusters: int = 24, epochs: int = 40, context: int = 512
    ) -> None:
        self.hidden = hidden
        self.clusters = clusters
        self.epochs = epochs
        self.context = context
        self._tasks_TD: Vectors | None = None
        self._count_A: Floats = np.zeros(0)
        self._model: GraphModel | None = None
        self._effort: EffortModel | None = None

    def fit(self, features: FeatureBatch, table: OutcomeTable, rng: np.random.Generator) -> Self:
        outcomes = observed(features, table)
        result = type(self)(self.hidden, self.clusters, self.epochs, self.context)
        vectors_ND = features.vectors_ND
        tasks_TD = _task_vectors(vectors_ND, table.tasks, self.clusters, rng)
        result._tasks_TD = tasks_TD
        result._count_A = (outcomes.weight_NA > 0).sum(axis=0).astype(np.float64)
        result._model = GraphModel.fit(
            "the estimator 'graph'",
            Anchored(vectors_ND, _nearest_tasks(vectors_ND, tasks_TD), tasks_TD),
            table,
            outcomes,
            LOSSES["bce"],
            GraphSettings.of(self.hidden, self.context, self.epochs),
            rng,
        )
        result._effort = EffortModel().fit(features, table)
        return result

    def predict(self, features: FeatureBatch) -> Estimates:
        anchoring = _nearest_tasks(features.vectors_ND, fitted(self._tasks_TD))
        quality_NA = 1 / (1 + np.exp(-fitted(self._model).logits(features, anchoring)))
        quality_NA[:, self._count_A == 0] = np.nan
        stderr_NA = stderr_of(quality_NA, self._count_A, self.hidden)
        return fitted(self._effort).estimates(features, quality_NA, stderr_NA)

    def state(self) -> State:
        params = {
            "hidden": self.hidden,
            "clusters": self.clusters,
            "epochs": self.epochs,
            "context": self.context,
        }
        arrays: dict[str, Array] = {"tasks": fitted(self._tasks_TD), "count": self._count_A}
        parts = {"model": fitted(self._model).state(), "effort": fitted(self._effort).state()}
        return join_states((params, arrays), parts)

    @classmethod
    def from_state(cls, state: State) -> Self:
        params, arrays = state
        result = cls(params["hidden"], params["clusters"], params["epochs"], params["context"])
        result._tasks_TD, result._count_A = arrays["tasks"], arrays["count"]
        result._model = GraphModel.from_state(part_state(state, "model"))
        result._effort = EffortModel.from_state(part_state(state, "effort"))
        return result


def _task_vectors(
    vectors_ND: Vectors, tasks: tuple[str | None, ...], clusters: int, rng: np.random.Generator
) -> Vectors:
    """One vector per task label, or per cluster where fewer than two are known; (T, D)."""
    names = sorted({task for task in tasks if task is not None})
    if len(names) > 1:
        member_NT = np.array([[task == name for name in names] for task in tasks], dtype=np.float32)
        return unit_rows((member_NT.T @ vectors_ND).astype(np.float64))
    # Equal requests can't be told apart, so they are no reason for further clusters.
    distinct = len(np.unique(vectors_ND[:_COUNTED_ROWS], axis=0))
    count = max(1, min(clusters, len(vectors_ND) // _ROWS_PER_TASK, distinct))
    return k_means(vectors_ND, count, rng)


def _nearest_tasks(vectors_ND: Vectors, tasks_TD: Vectors) -> Anchoring:
    alike_NT = vectors_ND @ tasks_TD.T
    count = min(_NEAREST, len(tasks_TD))
    ids_NK = np.argpartition(-alike_NT, count - 1, axis=1)[:, :count]
    near_NK = np.take_along_axis(alike_NT, ids_NK, axis=1)
    odds_NK = np.exp(_SHARPNESS * (near_NK - near_NK.max(axis=1, keepdims=True, initial=-1.0)))
    return Anchoring(ids_NK, (odds_NK / odds_NK.sum(axis=1, keepdims=True)).astype(np.float32))
