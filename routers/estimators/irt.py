"""Item response theory: how able an expert is, how hard a request, and which probes tell most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from routers.estimators.head import HeadEstimator, mean_logits, standardised, standardising
from routers.estimators.observed import Observed
from routers.records import FeatureBatch, Floats, Vectors
from routers.storage.states import fitted
from routers.training.batches import Array, Weights


class IrtEstimator(HeadEstimator):
    r"""Multidimensional two-parameter logistic model, its items' parameters read off the text.

    .. math:: \hat q_m(x) = \sigma(\theta_{m0} + a(x)^\top \theta_m - b(x)), \quad a(x) \ge 0

    a(x) (discrimination) and b(x) (difficulty) are linear in the vector, a(x) bent by
    (v + \sqrt{v^2 + 1}) / 2; θ_m are the abilities of an expert, and θ_m0 is the one that every
    request asks for alike. `add_expert` places an expert that is not known yet.

    Args:
        abilities: Dimensions of θ, >= 1.
        epochs: The most passes over the data.
        learning_rate: Of AdamW.
        weight_decay: Of AdamW.
        noise: Length of what is added to the unit-length vectors in training.
        members: How many runs, each with a validation fold of its own, are averaged, >= 1.

    Source: IRT-Router (Song et al., "IRT-Router: Effective and Interpretable Multi-LLM Routing
    via Item Response Theory", 2025), the MIRT variant; its cold start from an expert's description
    is left out.
    """

    name = "irt"
    settings: ClassVar[tuple[str, ...]] = (
        "abilities",
        "epochs",
        "learning_rate",
        "weight_decay",
        "noise",
        "members",
    )
    frozen: ClassVar[frozenset[str]] = HeadEstimator.frozen | {"curved"}
    loss = "bce"

    def __init__(
        self,
        abilities: int = 20,
        epochs: int = 100,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.1,
        noise: float = 0.6,
        members: int = 3,
    ) -> None:
        super().__init__()
        self.abilities = abilities
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.noise = noise
        self.members = members

    def start(self, vectors_ND: Vectors, outcomes: Observed, rng: np.random.Generator) -> Weights:
        given, count = vectors_ND.shape[1], self.abilities
        item_DH = rng.normal(size=(given, count + 1)) / np.sqrt(given)
        # Before anything is known no request is hard, and an expert is as able as its mean score.
        item_DH[:, -1] = 0.0
        return {
            **standardising(vectors_ND),
            "item": item_DH,
            "level": np.zeros(count + 1),
            "curved": np.append(np.ones(count), 0.0),
            "ability": np.zeros((count + 1, outcomes.score_NA.shape[1])),
            "general": mean_logits(outcomes),
        }

    @staticmethod
    def inside(weights: Mapping[str, Any], inputs: Mapping[str, Any]) -> Any:
        """a(x) and, last, b(x)."""
        item_BH = standardised(weights, inputs) @ weights["item"] + weights["level"]
        curve_BH = (item_BH + (item_BH**2 + 1) ** 0.5) / 2
        return curve_BH * weights["curved"] + item_BH * (1 - weights["curved"])

    @staticmethod
    def last(weights: Mapping[str, Any]) -> tuple[Any, Any]:
        ability_HA, curved_H1 = weights["ability"], weights["curved"][:, None]
        # Difficulty counts -1 for every expert.
        return ability_HA * curved_H1 + (curved_H1 - 1), weights["general"]

    @staticmethod
    def joined(members: Sequence[Weights]) -> Weights:
        curved = members[0]["curved"]
        ability = [each["ability"][:-1] / np.float32(len(members)) for each in members]
        return {
            **members[0],
            "item": _side_by_side([each["item"] for each in members]),
            "level": _side_by_side([each["level"] for each in members]),
            "curved": np.append(np.tile(curved[:-1], len(members)), curved[-1]),
            "ability": np.concatenate([*ability, members[0]["ability"][-1:]]),
            "general": np.mean([each["general"] for each in members], axis=0),
        }

    @staticmethod
    def needed(weights: Weights) -> Sequence[str]:
        return [name for name in weights if name not in {"ability", "general"}]

    def difficulty(self, features: FeatureBatch) -> Floats:
        """b(x), shape (N,): the higher, the fewer experts are right."""
        difficulty_N: Floats = self._inside(features)[:, -1].astype(np.float64)
        return difficulty_N

    def discrimination(self, features: FeatureBatch) -> Floats:
        """a(x) and, last, the 1 of the general ability; shape (N, abilities + 1)."""
        inside_NH = self._inside(features).astype(np.float64)
        return np.hstack([inside_NH[:, :-1], np.ones((len(features), 1))])

    def abilities_of_experts(self) -> Floats:
        """θ and, last, θ_m0; shape (A, abilities + 1); NaN in the last if never observed.

        With several members each has `abilities` dimensions of its own.
        """
        layer = fitted(self._layer)
        return np.column_stack([layer.slope_HA[:-1].T, layer.offset_A]).astype(np.float64)


def _side_by_side(parts: Sequence[Array]) -> Array:
    """All discriminations and one mean difficulty, along the last axis."""
    difficulty = np.mean([part[..., -1:] for part in parts], axis=0)
    return np.concatenate([*(part[..., :-1] for part in parts), difficulty], axis=-1)
