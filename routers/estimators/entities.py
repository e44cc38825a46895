"""Quality by a graph network over queries, the entities in them, and agents (experts)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Self

import numpy as np
from scipy.optimize import minimize_scalar

from routers.encoders.lexical import ends, unit
from routers.estimators.effort import EffortModel
from routers.estimators.graph_model import GraphModel, GraphSettings, stderr_of
from routers.estimators.observed import Observed, observed
from routers.records import Estimates, FeatureBatch, Floats, OutcomeTable, State, Vectors
from routers.storage.states import fitted, join_states, part_state
from routers.training.graph import Anchored, Anchoring
from routers.training.losses import SoftTargets

_NAME = re.compile(r"\b[A-Z][\w'-]+(?:\s+(?:of\s+|the\s+|de\s+)?[A-Z][\w'-]+){0,3}")
_NUMBER = re.compile(r"(?<![\w.])([$\u20ac\u00a3]?)(\d[\d,]*)(\.\d+)?\s*(%?)")
_FEWEST_ROWS = 50
_STEEPEST = 3.0
_TINY = 1e-6


class EntityGraphEstimator:
    r"""AgentRouter's graph: queries hang together by the entities that they mention.

    Entities are runs of up to four capitalised words, and numbers by kind (money, share, decimal,
    year, how many digits); no model that finds names is needed. Those that at least two queries
    mention become nodes, embedded as the mean vector of these queries. The network learns the soft
    targets :math:`p^*(a|q) \propto \exp(y_a / \tau)` by their KL divergence. These say who is
    better, not how good: a quality is the expert's mean, in log odds, moved by the logits (centred
    on each query) times a slope that fits the rows which the network was validated on.

    Relations between entities, which the original has as nodes, are left out. Training takes
    torch, prediction does not.

    Args:
        hidden: Width of a node's state.
        epochs: The most passes over the table.
        temperature: τ > 0 of the soft targets.
        most_entities: The most frequent so many become nodes.
        mentions: Of one query, at most so many entities count, the rarest first.
        context: How many rows messages come from at each step of training.

    Source: Zhang et al., "AgentRouter: A Knowledge-Graph-Guided LLM Router for Collaborative
    Multi-Agent Question Answering", 2025.
    """

    name = "entities"
    slow = True

    def __init__(
        self,
        hidden: int = 32,
        epochs: int = 40,
        temperature: float = 0.2,
        most_entities: int = 4000,
        mentions: int = 8,
        context: int = 512,
    ) -> None:
        self.hidden = hidden
        self.epochs = epochs
        self.temperature = temperature
        self.most_entities = most_entities
        self.mentions = mentions
        self.context = context
        self._entities: dict[str, int] = {}
        self._count_A: Floats = np.zeros(0)
        self._model: GraphModel | None = None
        self._slope = 0.0
        self._effort: EffortModel | None = None

    def fit(self, features: FeatureBatch, table: OutcomeTable, rng: np.random.Generator) -> Self:
        outcomes = observed(features, table)
        result = type(self)(*(getattr(self, name) for name in _SETTINGS))
        mentioned = [entities(text) for text in features.texts]
        result._entities = _vocabulary(mentioned, self.most_entities)
        anchoring, count = result._anchoring(mentioned), len(result._entities)
        vectors_ND = features.vectors_ND
        result._count_A = (outcomes.weight_NA > 0).sum(axis=0).astype(np.float64)
        result._model = GraphModel.fit(
            "the estimator 'entities'",
            Anchored(vectors_ND, anchoring, _entity_vectors(vectors_ND, anchoring, count)),
            table,
            outcomes,
            SoftTargets(self.temperature),
            GraphSettings.of(self.hidden, self.context, self.epochs),
            rng,
        )
        model = result._model
        rows = model.held_out if len(model.held_out) >= _FEWEST_ROWS else np.arange(len(table))
        apart_NA = _apart(model, features, anchoring)[rows]
        result._slope = _best_slope(_base(model), apart_NA, outcomes.take(rows))
        result._effort = EffortModel().fit(features, table)
        return result

    def predict(self, features: FeatureBatch) -> Estimates:
        anchoring = self._anchoring([entities(text) for text in features.texts])
        model = fitted(self._model)
        quality_NA = _quality(_base(model), _apart(model, features, anchoring), self._slope)
        quality_NA[:, self._count_A == 0] = np.nan
        stderr_NA = stderr_of(quality_NA, self._count_A, self.hidden)
        return fitted(self._effort).estimates(features, quality_NA, stderr_NA)

    def state(self) -> State:
        params = {name: getattr(self, name) for name in _SETTINGS}
        params |= {"entities": list(self._entities), "slope": self._slope}
        parts = {
            "model": fitted(self._model).state(),
            "effort": fitted(self._effort).state(),
        }
        return join_states((params, {"count": self._count_A}), parts)

    @classmethod
    def from_state(cls, state: State) -> Self:
        params, arrays = state
        result = cls(*(params[name] for name in _SETTINGS))
        result._entities = {entity: place for place, entity in enumerate(params["entities"])}
        result._count_A = arrays["count"]
        result._model = GraphModel.from_state(part_state(state, "model"))
        result._slope = params["slope"]
        result._effort = EffortModel.from_state(part_state(state, "effort"))
        return result

    def _anchoring(self, mentioned: Sequence[Sequence[str]]) -> Anchoring:
        ids_NK = np.zeros((len(mentioned), self.mentions), dtype=np.int64)
        share_NK = np.zeros((len(mentioned), self.mentions), dtype=np.float32)
        for row, names in enumerate(mentioned):
            # Numbered by falling frequency: the rarest have the highest numbers.
            known = sorted({self._entities[name] for name in names if name in self._entities})
            places = known[-self.mentions :]
            ids_NK[row, : len(places)] = places
            share_NK[row, : len(places)] = 1 / max(len(places), 1)
        return Anchoring(ids_NK, share_NK)


_SETTINGS = ("hidden", "epochs", "temperature", "most_entities", "mentions", "context")


def entities(text: str) -> list[str]:
    """The names and kinds of numbers in a text, as they come; of a long one, in its two ends."""
    text = ends(text)
    names = [" ".join(name.split()).lower() for name in _NAME.findall(text)]
    return names + [_kind(*parts) for parts in _NUMBER.findall(text)]


def _kind(money: str, whole: str, decimals: str, share: str) -> str:
    digits = whole.replace(",", "")
    if money or share:
        return "#money" if money else "#share"
    if decimals:
        return "#decimal"
    if len(whole) == 4 and "1000" <= whole < "2100":
        return "#year"
    return f"#{min(len(digits), 6)} digits"


def _vocabulary(mentioned: Sequence[Sequence[str]], most: int) -> dict[str, int]:
    counts = Counter(name for names in mentioned for name in set(names))
    shared = sorted((-count, name) for name, count in counts.items() if count > 1)
    # A graph without any entity still needs a node.
    names = [name for _, name in shared[:most]] or ["#none"]
    return {name: place for place, name in enumerate(names)}


def _entity_vectors(vectors_ND: Vectors, anchoring: Anchoring, count: int) -> Vectors:
    sums_TD = np.zeros((count, vectors_ND.shape[1]), dtype=np.float32)
    rows, places = np.nonzero(anchoring.share_NK)
    np.add.at(sums_TD, anchoring.ids_NK[rows, places], vectors_ND[rows])
    return unit(sums_TD)


def _apart(model: GraphModel, features: FeatureBatch, anchoring: Anchoring) -> Floats:
    """Logits around the experts' base and the row's mean, which the targets say nothing of."""
    apart_NA = model.logits(features, anchoring) - _base(model)
    centred_NA: Floats = apart_NA - apart_NA.mean(axis=1, keepdims=True)
    return centred_NA


def _base(model: GraphModel) -> Floats:
    base_A: Floats = model.nodes.base_A[model.place_A].astype(np.float64)
    return base_A


def _quality(base_A: Floats, apart_NA: Floats, slope: float) -> Floats:
    quality_NA: Floats = 1 / (1 + np.exp(-(base_A + slope * apart_NA)))
    return quality_NA


def _best_slope(base_A: Floats, apart_NA: Floats, outcomes: Observed) -> float:
    """The slope in [0, 3] at which the qualities have the least log loss."""

    def log_loss(slope: float) -> float:
        likely_NA = _quality(base_A, apart_NA, slope).clip(_TINY, 1 - _TINY)
        score_NA = outcomes.score_NA
        losses_NA = score_NA * np.log(likely_NA) + (1 - score_NA) * np.log(1 - likely_NA)
        return -float((outcomes.weight_NA * losses_NA).sum())

    return float(minimize_scalar(log_loss, bounds=(0.0, _STEEPEST), method="bounded").x)
