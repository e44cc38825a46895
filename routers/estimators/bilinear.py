"""Experts as points in a space that requests are projected to: matrix factorisation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from routers.estimators.head import HeadEstimator, mean_logits, standardised, standardising
from routers.estimators.observed import Observed
from routers.records import Vectors
from routers.training.batches import Weights


class BilinearEstimator(HeadEstimator):
    r"""Quality from the product of a request's projection and an expert's embedding.

    .. math:: \mathrm{logit}\, \hat q_a(x) = \mathbf 1^\top (P_a \odot W \tilde z) + b_a

    With loss "bce" it is EmbedLLM's, with "pairwise" RouteLLM's (winner above loser), whose logits
    rank and are given a scale afterwards. RouteLLM's last weights w are part of P here. A new
    expert is one P and b, fitted to its probes by logistic regression with W as it is.

    Args:
        width: Length of an embedding, >= 1.
        loss: A name of `LOSSES`.
        epochs: The most passes over the data.
        learning_rate: Of AdamW.
        weight_decay: Of AdamW.
        noise: Length of what is added to the unit-length vectors in training.
        members: How many runs, each with a validation fold of its own, are averaged, >= 1.

    Source: RouteLLM (Ong et al., 2024), its matrix factorisation; EmbedLLM (Zhuang et al.,
    "EmbedLLM: Learning Compact Representations of Large Language Models", 2024).
    """

    name = "bilinear"
    settings: ClassVar[tuple[str, ...]] = (
        "width",
        "loss",
        "epochs",
        "learning_rate",
        "weight_decay",
        "noise",
        "members",
    )

    def __init__(
        self,
        width: int = 32,
        loss: str = "bce",
        epochs: int = 100,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.1,
        noise: float = 0.6,
        members: int = 3,
    ) -> None:
        super().__init__()
        self.width = width
        self.loss = loss
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.noise = noise
        self.members = members

    def start(self, vectors_ND: Vectors, outcomes: Observed, rng: np.random.Generator) -> Weights:
        given, experts = vectors_ND.shape[1], outcomes.score_NA.shape[1]
        return {
            **standardising(vectors_ND),
            "projection": rng.normal(size=(given, self.width)) / np.sqrt(given),
            "slope": np.zeros((self.width, experts)),
            "offset": mean_logits(outcomes),
        }

    @staticmethod
    def inside(weights: Mapping[str, Any], inputs: Mapping[str, Any]) -> Any:
        return standardised(weights, inputs) @ weights["projection"]

    @staticmethod
    def joined(members: Sequence[Weights]) -> Weights:
        return {
            **members[0],
            "projection": np.concatenate([each["projection"] for each in members], axis=1),
            "slope": np.concatenate([each["slope"] for each in members]) / np.float32(len(members)),
            "offset": np.mean([each["offset"] for each in members], axis=0),
        }
