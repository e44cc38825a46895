"""What all trained heads share: experts in no order, a layer of qualities, an open pool."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np

from routers.estimators.effort import EffortModel
from routers.estimators.head_layer import HeadLayer
from routers.estimators.head_link import linked
from routers.estimators.newcomer import probes_of
from routers.estimators.observed import Observed, observed
from routers.records import Estimates, FeatureBatch, Floats, OutcomeTable, State, Vectors
from routers.storage.states import fitted, join_states, part_state
from routers.training.batches import VECTORS, Array, Examples, Rows, Weights
from routers.training.losses import LOSSES
from routers.training.regularisers import Regulariser
from routers.training.trainer import Schedule, TrainedWeights, train

# Losses whose logits are log odds of being right; the others only rank experts.
_OF_SCORES = frozenset({"bce", "mse"})
CENTRE, SCALE = "centre", "scale"


class HeadEstimator(ABC):
    """A head on the text's vector: trained with torch, predicting with numpy.

    A head is two pure functions, `inside` and `last`, and where to start. Experts are trained in an
    order that follows from their outcomes alone, so neither their names nor their columns change
    what is learned. A newcomer gets a column of the last layer, the rest stays as it is.

    Subclasses set `name`, `settings` (names of the constructor's arguments, JSON-able), `loss`,
    `epochs`, `learning_rate`, `weight_decay`, where they add it `noise`, and where they average
    several runs `members` and `joined`.
    """

    name: ClassVar[str]
    settings: ClassVar[tuple[str, ...]]
    frozen: ClassVar[frozenset[str]] = frozenset({CENTRE, SCALE})
    loss: str
    epochs: int
    learning_rate: float
    weight_decay: float
    noise: float = 0.0
    members: int = 1

    def __init__(self) -> None:
        self._weights: Weights | None = None
        self._layer: HeadLayer | None = None
        self._effort: EffortModel | None = None

    @abstractmethod
    def start(self, vectors_ND: Vectors, outcomes: Observed, rng: np.random.Generator) -> Weights:
        """Weights to start from; `outcomes` are of the observed experts only."""

    @staticmethod
    @abstractmethod
    def inside(weights: Mapping[str, Any], inputs: Mapping[str, Any]) -> Any:
        """What the last layer sees, (B, H), by operators that numpy and torch both know."""

    @staticmethod
    def last(weights: Mapping[str, Any]) -> tuple[Any, Any]:
        """Coefficients (H, A) and offsets (A,) of the last layer."""
        return weights["slope"], weights["offset"]

    @staticmethod
    def joined(members: Sequence[Weights]) -> Weights:
        """One head that says the mean of what several say; `members` are at least two."""
        raise NotImplementedError

    def schedule(self) -> Schedule:
        """How fast and how long to train."""
        return Schedule(
            epochs=self.epochs,
            patience=6,
            smallest_batch=64,
            memory=0.9,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            noise=self.noise,
        )

    def regularisers(self) -> Sequence[Regulariser]:
        """What to add to the loss."""
        return ()

    def fit(self, features: FeatureBatch, table: OutcomeTable, rng: np.random.Generator) -> Self:
        outcomes = observed(features, table)
        order_K = order_of_outcomes(outcomes)
        known = of_experts(outcomes, order_K)
        examples = Examples.of({VECTORS: features.vectors_ND}, known, table.groups)
        runs = [self._train(examples, known, rng) for _ in range(self.members)]
        weights = self.joined([run.weights for run in runs]) if len(runs) > 1 else runs[0].weights
        inside_NH = self.inside(weights, examples.inputs)
        slope_HK, offset_K = self.last(weights)
        if self.loss not in _OF_SCORES:
            slope_HK, offset_K = linked(slope_HK, offset_K, inside_NH, known, runs[0].held_out)
        layer = HeadLayer.of(slope_HK, offset_K, inside_NH, known)
        return self._with(
            {name: weights[name] for name in self.needed(weights)},
            layer.in_columns(order_K, len(table.experts)),
            EffortModel().fit(features, table),
        )

    @staticmethod
    def needed(weights: Weights) -> Sequence[str]:
        """Names of the weights that `inside` looks at."""
        return [name for name in weights if name not in {"slope", "offset"}]

    def predict(self, features: FeatureBatch) -> Estimates:
        inside_NH = self._inside(features)
        quality_NA, stderr_NA = fitted(self._layer).predict(inside_NH)
        return fitted(self._effort).estimates(features, quality_NA, stderr_NA)

    def add_expert(
        self, expert: str, features: FeatureBatch, probes: OutcomeTable, description: str = ""
    ) -> Self:
        known = fitted(self._effort)
        seen = probes_of(expert, known.experts, features, probes)
        effort = known.with_expert(expert, features, probes)
        place = effort.experts.index(expert)
        layer = fitted(self._layer).with_expert(place, self._inside(features), seen)
        return self._with(fitted(self._weights), layer, effort)

    def remove_expert(self, expert: str) -> Self:
        known = fitted(self._effort)
        effort = known.without_expert(expert)
        layer = fitted(self._layer).without_expert(known.experts.index(expert))
        return self._with(fitted(self._weights), layer, effort)

    def state(self) -> State:
        own = {name: getattr(self, name) for name in self.settings}, dict(fitted(self._weights))
        parts = {"layer": fitted(self._layer).state(), "effort": fitted(self._effort).state()}
        return join_states(own, parts)

    @classmethod
    def from_state(cls, state: State) -> Self:
        unfitted = cls(**{name: state[0][name] for name in cls.settings})
        return unfitted._with(
            {name: array for name, array in state[1].items() if "/" not in name},
            HeadLayer.from_state(part_state(state, "layer")),
            EffortModel.from_state(part_state(state, "effort")),
        )

    def _inside(self, features: FeatureBatch) -> Floats:
        inside_NH: Floats = self.inside(fitted(self._weights), {VECTORS: features.vectors_ND})
        return inside_NH

    def _with(self, weights: Weights, layer: HeadLayer, effort: EffortModel) -> Self:
        result = type(self)(**{name: getattr(self, name) for name in self.settings})
        result._weights, result._layer, result._effort = weights, layer, effort
        return result

    def _train(
        self, examples: Examples, known: Observed, rng: np.random.Generator
    ) -> TrainedWeights:
        return train(
            self.name,
            self._logits,
            self.start(examples.inputs[VECTORS], known, rng),
            examples,
            LOSSES[self.loss],
            rng=rng,
            schedule=self.schedule(),
            regularisers=self.regularisers(),
            frozen=self.frozen,
        )

    def _logits(self, weights: Mapping[str, Any], inputs: Mapping[str, Any]) -> Any:
        slope_HA, offset_A = self.last(weights)
        return self.inside(weights, inputs) @ slope_HA + offset_A


def standardising(vectors_ND: Vectors) -> dict[str, Array]:
    """Weights that centre vectors and give their coordinates a mean square of 1."""
    centre_D = vectors_ND.mean(axis=0)
    spread = float(np.sqrt(np.mean((vectors_ND - centre_D) ** 2)))
    return {CENTRE: centre_D, SCALE: np.array([1 / max(spread, 1e-6)], dtype=np.float32)}


def standardised(weights: Mapping[str, Any], inputs: Mapping[str, Any]) -> Any:
    """The "vectors" of `inputs`, centred and scaled."""
    return (inputs[VECTORS] - weights[CENTRE]) * weights[SCALE]


def mean_logits(outcomes: Observed) -> Floats:
    """Log odds of each expert's mean score, half an outcome of either kind added."""
    count_A = (outcomes.weight_NA > 0).sum(axis=0)
    mean_A = (outcomes.mean_A * count_A + 0.5) / (count_A + 1)
    logits_A: Floats = np.log(mean_A / (1 - mean_A))
    return logits_A


def order_of_outcomes(outcomes: Observed) -> Rows:
    """The observed experts, ordered by what was observed of them."""
    keys = {
        expert: outcomes.score_NA[:, expert].tobytes() + outcomes.weight_NA[:, expert].tobytes()
        for expert in np.flatnonzero(~np.isnan(outcomes.mean_A)).tolist()
    }
    return np.array(sorted(keys, key=keys.__getitem__), dtype=np.intp)


def of_experts(outcomes: Observed, columns: Rows) -> Observed:
    """Outcomes of some experts only, in that order."""
    score_NA, weight_NA = outcomes.score_NA[:, columns], outcomes.weight_NA[:, columns]
    return Observed(score_NA, weight_NA, outcomes.mean_A[columns])
