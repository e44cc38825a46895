"""Requests and experts in one space, drawn together where an expert is among the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from routers.estimators.head import HeadEstimator, standardised, standardising
from routers.estimators.observed import Observed
from routers.records import Vectors
from routers.training.batches import Weights
from routers.training.regularisers import Clusters, Regulariser

_TINY = 1e-6


class ContrastiveEstimator(HeadEstimator):
    r"""RouterDC's two contrasts on a frozen encoder.

    .. math:: s_a(x) = \cos(W \tilde z + c, k_a) / t, \quad
        \mathrm{logit}\, \hat q_a(x) = b_a + c\,(s_a(x) - \bar s(x))

    The top 3 experts of a query are drawn to it against its last 3, and queries of a cluster to
    each other against queries of others. Similarities only rank, so a logistic curve with one
    slope c and each expert's own b_a, fitted on held-out rows, makes qualities of them.

    Args:
        width: Of the common space, >= 1.
        temperature: t > 0.
        epochs: The most passes over the data.
        learning_rate: Of AdamW.
        weight_decay: Of AdamW.
        cluster_weight: Of the contrast between queries; 0 leaves it out.
        clusters: How many k-means clusters say which queries are alike, >= 2.

    Source: RouterDC (Chen et al., "RouterDC: Query-Based Router by Dual Contrastive Learning for
    Assembling Large Language Models", 2024), which trains the encoder (mDeBERTa) too.
    """

    name = "contrastive"
    settings: ClassVar[tuple[str, ...]] = (
        "width",
        "temperature",
        "epochs",
        "learning_rate",
        "weight_decay",
        "cluster_weight",
        "clusters",
    )
    loss = "contrast"

    def __init__(
        self,
        width: int = 64,
        temperature: float = 0.3,
        epochs: int = 60,
        learning_rate: float = 3e-3,
        weight_decay: float = 0.1,
        cluster_weight: float = 0.3,
        clusters: int = 16,
    ) -> None:
        super().__init__()
        self.width = width
        self.temperature = temperature
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.cluster_weight = cluster_weight
        self.clusters = clusters

    def start(self, vectors_ND: Vectors, outcomes: Observed, rng: np.random.Generator) -> Weights:
        given, experts = vectors_ND.shape[1], outcomes.score_NA.shape[1]
        return {
            **standardising(vectors_ND),
            "projection": rng.normal(size=(given, self.width)) / np.sqrt(given),
            # Vectors are centred; without a place of their own experts couldn't differ overall.
            "shift": rng.normal(size=self.width),
            "key": rng.normal(size=(self.width, experts)),
            "temperature": np.array([self.temperature]),
        }

    frozen: ClassVar[frozenset[str]] = HeadEstimator.frozen | {"temperature"}

    @staticmethod
    def inside(weights: Mapping[str, Any], inputs: Mapping[str, Any]) -> Any:
        """The request in the common space, of unit length."""
        place_BH = standardised(weights, inputs) @ weights["projection"] + weights["shift"]
        length_B = ((place_BH**2).sum(-1) + _TINY) ** 0.5
        return place_BH / length_B[:, None]

    @staticmethod
    def last(weights: Mapping[str, Any]) -> tuple[Any, Any]:
        key_HA = weights["key"]
        length_A = ((key_HA**2).sum(0) + _TINY) ** 0.5
        return key_HA / (length_A * weights["temperature"]), length_A * 0

    @staticmethod
    def needed(weights: Weights) -> Sequence[str]:
        return [name for name in weights if name not in {"key", "temperature"}]

    def regularisers(self) -> Sequence[Regulariser]:
        return (Clusters(self.cluster_weight, self.inside, self.clusters, self.temperature),)
