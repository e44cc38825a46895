"""A graph network fitted to outcomes: what the estimators that use one have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from routers.estimators.columns import by_content
from routers.estimators.observed import Observed
from routers.records import FeatureBatch, Floats, OutcomeTable, State
from routers.training.batches import Array, Examples, Head, Rows, Weights, torch_for
from routers.training.graph import (
    Anchored,
    Anchoring,
    Context,
    Nodes,
    attach,
    pass_messages,
    settled_nodes,
    start_weights,
)
from routers.training.losses import Loss
from routers.training.trainer import Schedule, train

_FEWEST_ROWS = 40
_SETTLED_ROWS = 4096
_USED = ("query", "query_bias")


@dataclass(frozen=True, slots=True)
class GraphSettings:
    """How large the network is and how long it learns.

    Attributes:
        hidden: Width H of a node's state.
        context: How many rows messages come from at each step.
        schedule: How the trainer goes about it.
    """

    hidden: int
    context: int
    schedule: Schedule

    @classmethod
    def of(cls, hidden: int, context: int, epochs: int) -> Self:
        """With what is usual otherwise."""
        return cls(hidden, context, Schedule(epochs=epochs, patience=6, noise=0.3))


@dataclass(frozen=True, slots=True, eq=False)
class GraphModel:
    """A trained network, ready to attach queries to; numpy alone.

    Attributes:
        weights: Those that a new query needs.
        nodes: What its anchors tell it, and the experts' states.
        place_A: Column of each expert among `nodes`, which are sorted by what they answered and
            not by name, so that names and their order decide nothing.
        held_out: Rows that it was validated on and did not learn from.
    """

    weights: Weights
    nodes: Nodes
    place_A: Rows
    held_out: Rows

    @classmethod
    def fit(
        cls,
        what: str,
        queries: Anchored,
        table: OutcomeTable,
        outcomes: Observed,
        loss: Loss,
        settings: GraphSettings,
        rng: np.random.Generator,
    ) -> Self:
        """Train on `table`, each step's rows attached to the others' graph.

        A table of fewer than 40 rows is too small to take edges out of: it gets every expert's
        mean.

        Raises:
            MissingExtraError: torch is not installed; `what` says who needs it.
        """
        torch_for(what)
        effort_NA = _effort(table)
        order = by_content(outcomes.score_NA, outcomes.weight_NA, effort_NA)
        sorted_ = Observed(
            outcomes.score_NA[:, order], outcomes.weight_NA[:, order], outcomes.mean_A[order]
        )
        _, groups_N = np.unique(np.array(table.groups, dtype=str), return_inverse=True)
        context = Context(
            queries,
            sorted_,
            effort_NA[:, order],
            groups_N,
            settings.context,
            rng.permutation(len(table)),
        )
        inputs: dict[str, Array] = {**queries.inputs(), "groups": groups_N}
        weights: Weights = start_weights(queries.vectors_ND.shape[1], settings.hidden, rng)
        held_out = np.array([], dtype=np.intp)
        if len(table) >= _FEWEST_ROWS:
            examples = Examples.of(inputs, sorted_, table.groups)
            found = train(
                what,
                query_head(context),
                weights,
                examples,
                loss,
                rng=rng,
                schedule=settings.schedule,
            )
            weights, held_out = found.weights, found.held_out
        rows = np.sort(rng.permutation(len(table))[:_SETTLED_ROWS])
        nodes = Nodes.from_arrays(settled_nodes(weights, context, rows).arrays())
        used = {name: weights[name] for name in _USED}
        return cls(used, nodes, np.argsort(order), held_out)

    def logits(self, features: FeatureBatch, anchoring: Anchoring) -> Floats:
        """Log odds per expert, (N, A)."""
        inputs = {"vectors": features.vectors_ND, **anchoring.inputs()}
        logits_NA: Floats = attach(self.weights, self.nodes, inputs)[:, self.place_A]
        return logits_NA.astype(np.float64)

    def state(self) -> State:
        arrays: dict[str, Array] = {**self.weights, **self.nodes.arrays()}
        return {}, {**arrays, "place": self.place_A, "held_out": self.held_out}

    @classmethod
    def from_state(cls, state: State) -> Self:
        arrays = state[1]
        weights = {name: arrays[name] for name in _USED}
        return cls(weights, Nodes.from_arrays(arrays), arrays["place"], arrays["held_out"])


def stderr_of(quality_NA: Floats, outcomes_A: Floats, hidden: int) -> Floats:
    """As in a linear model of as many dimensions: the variance of a score times H / n."""
    share_A = np.minimum(hidden / np.maximum(outcomes_A, 1.0), 1.0)
    stderr_NA: Floats = np.sqrt(np.maximum(quality_NA * (1 - quality_NA), 1e-4) * share_A)
    return stderr_NA


def query_head(context: Context) -> Head:
    """Logits of a batch from the rows that none of its groups is in: what the trainer trains."""

    def head(weights: Mapping[str, Any], inputs: Mapping[str, Any]) -> Any:
        nodes = pass_messages(weights, context, context.rows_besides(inputs["groups"]))
        return attach(weights, nodes, inputs)

    return head


def _effort(table: OutcomeTable) -> Floats:
    """Log tokens written, standardised; 0 where unknown. They stand for the cost of an edge."""
    tokens_NA = np.log1p(table.output_tokens_NA)
    known_NA = ~np.isnan(tokens_NA)
    if not known_NA.any():
        return np.zeros_like(tokens_NA)
    known_K = np.sort(tokens_NA[known_NA])
    spread = max(float(known_K.std()), 1e-6)
    return np.where(known_NA, (tokens_NA - known_K.mean()) / spread, 0.0)
