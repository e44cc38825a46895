"""Quality straight from the text: a small transformer whose last layer is tuned to outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
import numpy.typing as npt

from routers.encoders.minilm import FILES, WEIGHTS, shared_model
from routers.estimators.columns import by_content
from routers.estimators.effort import EffortModel
from routers.estimators.observed import Observed, observed
from routers.records import Estimates, FeatureBatch, Floats, OutcomeTable, State, Vectors
from routers.storage.states import fitted, join_states, part_state
from routers.training.batches import Examples, Weights, tensor, torch_for
from routers.training.last_layer import padded, text_head
from routers.training.losses import LOSSES
from routers.training.matching import Matches
from routers.training.trainer import Schedule, one_thread, train

_WHAT = "the estimator 'text'"
_SETTINGS = ("labels", "epochs", "most_rows", "most_tokens")
_PRIOR_ROWS = 2.0
_TINY = 1e-6


class TextEstimator:
    r"""MiniLM with a regression head per expert; five layers stay, the sixth is tuned.

    .. math:: \hat q_a(x) = \alpha_a + \beta_a\, \sigma(b_a + w_a^\top \mathrm{MiniLM}(x))

    It reads the text itself and not the router's vectors. Targets are the scores (Tryage), for
    which α is 0 and β 1, or whether the best expert is matched (`Matches`: HybridLLM, BEST-Route),
    for which α and β >= 0 turn the probability of a match back into a score. The expert to be
    matched then has its mean everywhere: these labels say when another will do, not when it won't.

    What is before the sixth layer is computed once, so training is bounded by `most_rows` rows of
    `most_tokens` tokens: of a larger table a random part is learned from. Training *and* prediction
    take torch and MiniLM (the extra `torch`), a few milliseconds a text: beside the tables of this
    package it is slow, and there as a reference.

    Args:
        labels: "score", "det", "prob" or "trans".
        epochs: The most passes over the rows.
        most_rows: How many rows are learned from.
        most_tokens: Of a longer text the two ends are read.

    Source: Hari & Thomson, "Tryage: Real-time, Intelligent Routing of User Prompts to Large
    Language Models", 2023.
    """

    name = "text"
    slow = True

    def __init__(
        self,
        labels: str = "score",
        epochs: int = 3,
        most_rows: int = 1500,
        most_tokens: int = 48,
    ) -> None:
        self.labels = labels
        self.epochs = epochs
        self.most_rows = most_rows
        self.most_tokens = most_tokens
        self._weights: Weights | None = None
        self._map_2A: Floats = np.zeros((2, 0))
        self._count_A: Floats = np.zeros(0)
        self._effort: EffortModel | None = None

    def fit(self, features: FeatureBatch, table: OutcomeTable, rng: np.random.Generator) -> Self:
        outcomes = observed(features, table)
        torch_for(_WHAT)
        result = type(self)(*(getattr(self, name) for name in _SETTINGS))
        result._effort = EffortModel().fit(features, table)
        result._count_A = (outcomes.weight_NA > 0).sum(axis=0).astype(np.float64)
        rows = np.sort(rng.permutation(len(table))[: self.most_rows])
        order = by_content(outcomes.score_NA, outcomes.weight_NA)
        targets = _sorted(self._targets(outcomes), order)
        # What many outcomes say of the mean is known without reading any text.
        mean_A = _shrunk_mean(targets)
        states_NTD, seen_NT = padded(self._states([features.texts[row] for row in rows]))
        examples = Examples.of(
            {"states": states_NTD, "seen": seen_NT.astype(np.int64)},
            targets.take(rows),
            tuple(table.groups[row] for row in rows),
        )
        width, experts = states_NTD.shape[2], len(table.experts)
        start = {
            **shared_model().last_layer(),
            "slope": np.zeros((width, experts), np.float32),
            "offset": np.log(mean_A / (1 - mean_A)),
        }
        schedule = Schedule(
            self.epochs, patience=2, blind_epochs=1, batch=32, learning_rate=2e-4, weight_decay=1e-2
        )
        found = train(_WHAT, text_head, start, examples, LOSSES["bce"], rng=rng, schedule=schedule)
        unsorted = np.argsort(order)
        weights = dict(found.weights)
        for name in ("slope", "offset"):
            weights[name] = np.ascontiguousarray(found.weights[name][..., unsorted])
        result._weights = weights
        result._map_2A = np.stack([np.zeros(experts), np.ones(experts)])
        if self.labels != "score":
            likely_NA = result._likely(features.take(rows))
            result._map_2A = _back_to_scores(likely_NA, outcomes.take(rows))
        return result

    def predict(self, features: FeatureBatch) -> Estimates:
        quality_NA = self._map_2A[0] + self._map_2A[1] * self._likely(features)
        quality_NA = np.minimum(np.maximum(quality_NA, 0.0), 1.0)
        quality_NA[:, self._count_A == 0] = np.nan
        # As if of a few dozen free parameters: most of the layer stays where it was.
        share_A = np.minimum(32.0 / np.maximum(self._count_A, 1.0), 1.0)
        stderr_NA = np.sqrt(np.maximum(quality_NA * (1 - quality_NA), 1e-4) * share_A)
        return fitted(self._effort).estimates(features, quality_NA, stderr_NA)

    def state(self) -> State:
        params = {name: getattr(self, name) for name in _SETTINGS}
        params["weights_sha256"] = FILES.sha256()
        arrays = {"map": self._map_2A, "count": self._count_A}
        parts: dict[str, State] = {
            "layer": ({}, dict(fitted(self._weights))),
            "effort": fitted(self._effort).state(),
        }
        return join_states((params, arrays), parts)

    @classmethod
    def from_state(cls, state: State) -> Self:
        """What `state` describes; of MiniLM only the tuned layer is in it.

        Raises:
            RoutingError: MiniLM is missing, or is another one than the state was made with.
        """
        params, arrays = state
        FILES.check(params["weights_sha256"], WEIGHTS)
        result = cls(*(params[name] for name in _SETTINGS))
        result._map_2A, result._count_A = arrays["map"], arrays["count"]
        result._weights = part_state(state, "layer")[1]
        result._effort = EffortModel.from_state(part_state(state, "effort"))
        return result

    def _targets(self, outcomes: Observed) -> Observed:
        if self.labels == "score":
            return outcomes
        matches = Matches.of(outcomes, self.labels)
        return Observed(matches.label_NA, matches.weight_NA, outcomes.mean_A)

    def _states(self, texts: Sequence[str]) -> list[Vectors]:
        model = shared_model()
        with model.one_thread():
            return [model.trunk(text, self.most_tokens) for text in texts]

    def _likely(self, features: FeatureBatch) -> Floats:
        """σ(logits), (N, A), one text at a time: padding would change the last digits."""
        torch = torch_for(_WHAT)
        weights = {name: tensor(array) for name, array in fitted(self._weights).items()}
        likely_NA = np.zeros((len(features), len(weights["offset"])))
        with torch.inference_mode(), one_thread(torch):
            for row, states_TD in enumerate(self._states(features.texts)):
                states_1TD, seen_1T = padded([states_TD])
                inputs = {"states": tensor(states_1TD), "seen": tensor(seen_1T.astype(np.int64))}
                likely_NA[row] = text_head(weights, inputs)[0].sigmoid().numpy()
        return likely_NA


def _sorted(outcomes: Observed, order: npt.NDArray[np.intp]) -> Observed:
    return Observed(
        outcomes.score_NA[:, order], outcomes.weight_NA[:, order], outcomes.mean_A[order]
    )


def _shrunk_mean(targets: Observed) -> Floats:
    mass_A = targets.weight_NA.sum(axis=0)
    total_A = (targets.weight_NA * targets.score_NA).sum(axis=0)
    mean_A: Floats = (total_A + 0.5 * _PRIOR_ROWS) / (mass_A + _PRIOR_ROWS)
    return mean_A


def _back_to_scores(likely_NA: Floats, outcomes: Observed) -> Floats:
    """Offset and slope >= 0 of the least-squares line from a probability to a score, (2, A)."""
    weight_NA = outcomes.weight_NA
    mass_A = np.maximum(weight_NA.sum(axis=0), _TINY)
    mean_A = (weight_NA * likely_NA).sum(axis=0) / mass_A
    score_A = (weight_NA * outcomes.score_NA).sum(axis=0) / mass_A
    apart_NA = likely_NA - mean_A
    spread_A = (weight_NA * apart_NA**2).sum(axis=0) + _TINY
    slope_A = np.maximum((weight_NA * apart_NA * outcomes.score_NA).sum(axis=0) / spread_A, 0.0)
    return np.stack([score_A - slope_A * mean_A, slope_A])
