"""A small neural network: one hidden layer, one output per expert."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from routers.estimators.head import HeadEstimator, mean_logits, standardised, standardising
from routers.estimators.observed import Observed
from routers.records import Vectors
from routers.training.batches import Weights
from routers.training.regularisers import Consistency, LoadBalance, Neighbours, Regulariser


class MlpEstimator(HeadEstimator):
    r"""Multi-hot correctness of all experts from one hidden layer.

    .. math:: \hat q(x) = \sigma(V^\top \max(0, U^\top \tilde z + c) + b)

    The last layer starts at 0 and its offsets at each expert's mean, so what is not learned is the
    expert's mean. The smallest validation loss ends training.

    Args:
        units: Width of the hidden layer, >= 1.
        loss: A name of `LOSSES`.
        epochs: The most passes over the data.
        learning_rate: Of AdamW.
        weight_decay: Of AdamW.
        noise: Length of what is added to the unit-length vectors in training.
        neighbours: Weight of `Neighbours` (RoMA).
        consistency: Weight of `Consistency` (MoT).
        balance: Weight of `LoadBalance` (global load balance).
        members: How many networks, each with a validation fold of its own, are averaged, >= 1.

    Source: the MLP router of RouterBench (Hu et al., 2024), with the multi-hot loss of DriftMoE
    (Aspis et al., 2025).
    """

    name = "mlp"
    settings: ClassVar[tuple[str, ...]] = (
        "units",
        "loss",
        "epochs",
        "learning_rate",
        "weight_decay",
        "noise",
        "neighbours",
        "consistency",
        "balance",
        "members",
    )

    def __init__(
        self,
        units: int = 64,
        loss: str = "bce",
        epochs: int = 100,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.1,
        noise: float = 0.6,
        neighbours: float = 0.0,
        consistency: float = 0.0,
        balance: float = 0.0,
        members: int = 3,
    ) -> None:
        super().__init__()
        self.units = units
        self.loss = loss
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.noise = noise
        self.neighbours = neighbours
        self.consistency = consistency
        self.balance = balance
        self.members = members

    def start(self, vectors_ND: Vectors, outcomes: Observed, rng: np.random.Generator) -> Weights:
        width, experts = vectors_ND.shape[1], outcomes.score_NA.shape[1]
        return {
            **standardising(vectors_ND),
            "inner": rng.normal(size=(width, self.units)) * np.sqrt(2 / width),
            "shift": np.zeros(self.units),
            "slope": np.zeros((self.units, experts)),
            "offset": mean_logits(outcomes),
        }

    @staticmethod
    def inside(weights: Mapping[str, Any], inputs: Mapping[str, Any]) -> Any:
        return (standardised(weights, inputs) @ weights["inner"] + weights["shift"]).clip(0)

    def regularisers(self) -> Sequence[Regulariser]:
        return Neighbours(self.neighbours), Consistency(self.consistency), LoadBalance(self.balance)

    @staticmethod
    def joined(members: Sequence[Weights]) -> Weights:
        count = len(members)
        return {
            **members[0],
            "inner": np.concatenate([each["inner"] for each in members], axis=1),
            "shift": np.concatenate([each["shift"] for each in members]),
            "slope": np.concatenate([each["slope"] for each in members]) / np.float32(count),
            "offset": np.mean([each["offset"] for each in members], axis=0),
        }
