r"""Message passing between queries, experts and anchors (tasks or entities), in plain torch.

Two rounds. A query hears from the experts that answered it, along edges that carry the score and
the length of the answer, and from its anchors; experts and anchors hear from queries:

.. math:: e' = e + \mathrm{mean}_i\, \rho(U h_i + V s_{ia}), \quad
    t' = t + \mathrm{mean}_i\, P h_i, \quad
    h' = \rho(h + \mathrm{mean}_a\, \rho(W e'_a + V' s_{ia}) + Q\, \mathrm{mean}_t\, t')

A query whose experts are to be predicted is attached at the end: it hears from its anchors alone,
as one that nobody has answered yet, and is heard by nobody. So no edge that is predicted is ever
passed along, in training as in service.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from routers.estimators.observed import Observed
from routers.records import Floats, Vectors
from routers.training.batches import Array, Rows, Weights, tensor, torch_for
from routers.training.trainer import one_thread

_WIDE = 0.3
_ROUNDS = (1, 2)
# Of the mean over an expert's edges: how many silent ones it is shrunk by.
_SILENT = 1.0
_TINY = 1e-6
_PRIOR_SCORE, _PRIOR_ROWS = 0.5, 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Anchoring:
    """Which anchors each query hangs on.

    Attributes:
        ids_NK: Anchor numbers, any where the share is 0.
        share_NK: How much of the query each is, float32; a row may be all 0.
    """

    ids_NK: Rows
    share_NK: Vectors

    def inputs(self) -> dict[str, Array]:
        return {"anchors": self.ids_NK, "shares": self.share_NK}


@dataclass(frozen=True, slots=True, eq=False)
class Anchored:
    """Queries with what they hang on.

    Attributes:
        vectors_ND: One vector per query.
        anchoring: Which anchors each hangs on.
        anchors_TD: One vector per anchor.
    """

    vectors_ND: Vectors
    anchoring: Anchoring
    anchors_TD: Vectors

    def inputs(self) -> dict[str, Array]:
        return {"vectors": self.vectors_ND, **self.anchoring.inputs()}


class Context:
    """The rows that messages may come from, as tensors.

    Args:
        queries: The rows, with their anchors.
        outcomes: Scores and weights, (N, A).
        effort_NA: How long each answer was, standardised, 0 where unknown.
        groups_N: Group of each row, as numbers.
        most_rows: Messages come from at most so many rows at a time.
        order_N: The order in which they are picked.
    """

    def __init__(
        self,
        queries: Anchored,
        outcomes: Observed,
        effort_NA: Floats,
        groups_N: Rows,
        most_rows: int,
        order_N: Rows,
    ) -> None:
        anchoring = queries.anchoring
        self.vectors_ND, self.anchors_TD = tensor(queries.vectors_ND), tensor(queries.anchors_TD)
        self.ids_NK, self.share_NK = tensor(anchoring.ids_NK), tensor(anchoring.share_NK)
        self.score_NA, self.weight_NA = tensor(outcomes.score_NA), tensor(outcomes.weight_NA)
        self.effort_NA = tensor(effort_NA)
        self.groups_N, self.order_N = tensor(groups_N), tensor(order_N)
        self.most_rows = most_rows

    def rows_besides(self, groups_B: Any) -> Any:
        """At most `most_rows` rows of no group in `groups_B`, whose first says which."""
        torch = torch_for("a graph")
        start = int(groups_B[0]) if len(groups_B) else 0
        order_N = self.order_N.roll(-(start % len(self.order_N)))
        allowed_N = order_N[~torch.isin(self.groups_N[order_N], groups_B)]
        return allowed_N[: self.most_rows]


@dataclass(frozen=True, slots=True, eq=False)
class Nodes:
    """What a new query needs of the graph; tensors or arrays.

    Attributes:
        anchors: What each anchor tells its queries in either round, 2 of (T, H).
        experts_AH: The experts' states.
        base_A: Log odds of the experts' mean scores.
    """

    anchors: tuple[Any, Any]
    experts_AH: Any
    base_A: Any

    def arrays(self) -> dict[str, Array]:
        """As numpy arrays, by name; `from_arrays` takes them."""
        told = dict(zip(("anchors1", "anchors2"), self.anchors, strict=True))
        named = {**told, "experts": self.experts_AH, "base": self.base_A}
        return {
            name: values if isinstance(values, np.ndarray) else values.detach().numpy().copy()
            for name, values in named.items()
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> Nodes:
        return cls((arrays["anchors1"], arrays["anchors2"]), arrays["experts"], arrays["base"])


def start_weights(width: int, hidden: int, rng: np.random.Generator) -> dict[str, Array]:
    """Where to start: the experts' states are read out as 0, so every estimate is the mean."""

    def matrix(rows: int) -> Array:
        matrix_DH = rng.standard_normal((rows, hidden)) * (2 / rows) ** 0.5
        return np.asarray(matrix_DH, dtype=np.float32)

    weights = {"query": matrix(width), "anchor": matrix(width), "expert": matrix(1)[0] * _WIDE}
    weights |= {name: np.zeros(hidden, np.float32) for name in ("query_bias", "anchor_bias")}
    for turn in _ROUNDS:
        for name in ("heard", "told", "gather", "pool"):
            weights[f"{name}{turn}"] = matrix(hidden) * _WIDE
        weights[f"edge{turn}"], weights[f"answer{turn}"] = matrix(2), matrix(2)
    weights["out"] = np.zeros((hidden, hidden), np.float32)
    weights["common"] = np.zeros(hidden, np.float32)
    return weights


def pass_messages(weights: Mapping[str, Any], context: Context, rows_C: Any) -> Nodes:
    """The states of experts and anchors after both rounds, from the edges of `rows_C` alone."""
    score_CA, weight_CA = context.score_NA[rows_C], context.weight_NA[rows_C]
    mass_A, total_A = weight_CA.sum(dim=0), (weight_CA * score_CA).sum(dim=0)
    mean_A = (total_A + _PRIOR_SCORE * _PRIOR_ROWS) / (mass_A + _PRIOR_ROWS)
    query_E, expert_E = weight_CA.nonzero(as_tuple=True)
    weight_E1 = weight_CA[query_E, expert_E][:, None]
    ahead_E = (score_CA - mean_A)[query_E, expert_E]
    effort_E = context.effort_NA[rows_C][query_E, expert_E]
    edge_EF = torch_for("a graph").stack([ahead_E, effort_E], dim=1)
    ids_CK, share_CK = context.ids_NK[rows_C], context.share_NK[rows_C]
    query_CH = _query(weights, context.vectors_ND[rows_C])
    anchor_TH = relu(context.anchors_TD @ weights["anchor"] + weights["anchor_bias"])
    expert_AH = weights["expert"].expand(len(mean_A), -1)
    told = []
    for turn in _ROUNDS:
        told_EH = (query_CH @ weights[f"told{turn}"])[query_E] * (edge_EF @ weights[f"edge{turn}"])
        expert_AH = expert_AH + _mean(told_EH, weight_E1, expert_E, len(mean_A))
        anchor_TH = anchor_TH + _up(
            query_CH @ weights[f"gather{turn}"], ids_CK, share_CK, anchor_TH
        )
        told.append(anchor_TH @ weights[f"pool{turn}"])
        heard_EH = (expert_AH @ weights[f"heard{turn}"])[expert_E]
        heard_EH = relu(heard_EH + edge_EF @ weights[f"answer{turn}"])
        heard_CH = _mean(heard_EH, weight_E1, query_E, len(query_CH))
        query_CH = relu(query_CH + heard_CH + _down(told[-1], ids_CK, share_CK))
    out_AH = weights["common"] + _apart(expert_AH) @ weights["out"]
    return Nodes((told[0], told[1]), out_AH, (mean_A / (1 - mean_A)).log())


def attach(weights: Mapping[str, Any], nodes: Nodes, inputs: Mapping[str, Any]) -> Any:
    """Logits of queries that hear from their anchors alone, (B, A); torch and numpy alike."""
    query_BH = _query(weights, inputs["vectors"])
    for told_TH in nodes.anchors:
        query_BH = relu(query_BH + _down(told_TH, inputs["anchors"], inputs["shares"]))
    return nodes.base_A + query_BH @ nodes.experts_AH.T


def relu(values: Any) -> Any:
    """max(0, values), written with operators."""
    return (values + abs(values)) / 2


def settled_nodes(weights: Weights, context: Context, rows: Rows) -> Nodes:
    """`pass_messages` over `rows` with weights as arrays, outside of training."""
    torch = torch_for("a graph")
    with torch.no_grad(), one_thread(torch):
        return pass_messages(
            {name: tensor(array) for name, array in weights.items()}, context, tensor(rows)
        )


def _query(weights: Mapping[str, Any], vectors: Any) -> Any:
    return relu(vectors @ weights["query"] + weights["query_bias"])


def _mean(message_EH: Any, weight_E1: Any, to_E: Any, count: int) -> Any:
    sum_XH = message_EH.new_zeros(count, message_EH.shape[1])
    mass_X1 = message_EH.new_zeros(count, 1)
    sum_XH = sum_XH.index_add(0, to_E, message_EH * weight_E1)
    return sum_XH / (mass_X1.index_add(0, to_E, weight_E1) + _SILENT)


def _apart(expert_AH: Any) -> Any:
    """What tells experts apart: each place centred and scaled over them (as batch norm does)."""
    centred_AH = expert_AH - expert_AH.mean(dim=0)
    return centred_AH / ((centred_AH**2).mean(dim=0) + _TINY).sqrt()


def _up(message_CH: Any, ids_CK: Any, share_CK: Any, anchor_TH: Any) -> Any:
    count = ids_CK.shape[1]
    repeated_EH = message_CH.repeat_interleave(count, dim=0)
    return _mean(repeated_EH, share_CK.reshape(-1, 1), ids_CK.reshape(-1), len(anchor_TH))


def _down(told_TH: Any, ids_BK: Any, share_BK: Any) -> Any:
    return (told_TH[ids_BK] * share_BK[:, :, None]).sum(1)
