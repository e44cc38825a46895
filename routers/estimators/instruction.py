"""Quality by how well what is asked matches what the experts' cards say they are good at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np

from routers.base import Encoder, Estimator
from routers.encoders.instructions import ExtractiveInstructor, Instructor, WrittenInstructor
from routers.errors import MissingExtraError, RoutingError
from routers.estimators.card_table import CardTable, embedded
from routers.estimators.described import describe
from routers.estimators.link import Link
from routers.estimators.newcomer import probes_of
from routers.estimators.observed import observed
from routers.records import Estimates, FeatureBatch, Floats, OutcomeTable, State
from routers.registry import encoder_class, estimator_class, make_encoder, make_estimator
from routers.storage.states import fitted, join_states, part_state

_BEST_ENCODER, _PLAIN_ENCODER = "static", "tfidf"
_STRENGTH = 20.0
_LEAST = 1e-6
_SETTINGS = ("descriptions", "local", "encoder", "sharpness", "threshold")


class InstructionEstimator:
    r"""The global scale of cards and the local one of outcomes, with a gate between them.

    .. math:: \hat q_m(x) = g(x)\,l(\cos(e(\mathrm{instr}(x)), e_m)) + (1 - g(x))\,
        \hat q^{local}_m(x), \quad g(x) = \sigma(\kappa (\max_m \cos - \tau))

    A link l, fitted on the training outcomes, turns a similarity into a quality. Experts without
    outcomes have the link alone: their description is enough to admit them. The maximum in the gate
    runs over the experts of `fit`, so that admitting one changes no other's estimate. An expert
    that no description is given of gets one made of the tasks and words that it does best at,
    compared with the others.

    Args:
        descriptions: Expert id to what its card says it is good at.
        local: Name of the estimator that learns from outcomes.
        encoder: Name of the encoder of instructions and descriptions; None takes `static` where it
            is installed and `tfidf` elsewhere.
        sharpness: κ > 0.
        threshold: τ in [0, 1]: the similarity from which on cards say more than outcomes.
        instructor: Says what a text asks for; None reads it off the text (`ExtractiveInstructor`).
            What a language model wrote beforehand (`WrittenInstructor`) is part of the state; any
            other is handed over again by who loads one (`instructed`).

    Source: GLIDER ("Glider: Global and Local Instruction-Driven Expert Router", EMNLP 2025).
    """

    name = "instruction"

    def __init__(
        self,
        descriptions: Mapping[str, str] | None = None,
        local: str = "knn",
        encoder: str | None = None,
        sharpness: float = 20.0,
        threshold: float = 0.8,
        instructor: Instructor | None = None,
    ) -> None:
        self.descriptions = dict(descriptions or {})
        self.local = local
        self.encoder = encoder
        self.sharpness = sharpness
        self.threshold = threshold
        self.instructor = instructor or ExtractiveInstructor()
        self._encoder: Encoder | None = None
        self._cards: CardTable | None = None
        self._link: Link | None = None
        self._local: Estimator | None = None

    def described(
        self, descriptions: Mapping[str, str], instructions: Mapping[str, str] | None = None
    ) -> Self:
        """The unfitted estimator that goes by these descriptions, and instructions if given."""
        return type(self)(
            descriptions,
            self.local,
            self.encoder,
            self.sharpness,
            self.threshold,
            self.instructor if instructions is None else WrittenInstructor(instructions),
        )

    def instructed(self, instructor: Instructor) -> Self:
        """The same estimator, fitted or not, which asks `instructor` what a text asks for."""
        result = self._again()
        result.instructor = instructor
        return result

    def fit(self, features: FeatureBatch, table: OutcomeTable, rng: np.random.Generator) -> Self:
        outcomes = observed(features, table)
        instructions = [self.instructor.instruction(text) for text in features.texts]
        made = describe(instructions, table.tasks, outcomes)
        descriptions = tuple(
            self.descriptions.get(expert, "") or made[place]
            for place, expert in enumerate(table.experts)
        )
        result = self.described(self.descriptions)
        result._encoder = _encoder(self.encoder).fit([*instructions, *descriptions], rng)
        count = len(table.experts)
        result._cards = CardTable(
            table.experts,
            descriptions,
            embedded(result._encoder, descriptions),
            np.ones(count, dtype=bool),
            np.zeros(count),
            np.zeros(count),
        )
        alike_NA = result._encoder.encode(instructions) @ result._cards.vectors_AD.T
        result._link = Link.fit(alike_NA.astype(np.float64), outcomes)
        result._local = make_estimator(self.local).fit(features, table, rng)
        return result

    def predict(self, features: FeatureBatch) -> Estimates:
        cards, found = fitted(self._cards), fitted(self._local).predict(features)
        local_NA, local_error_NA, tokens_NA, latency_NA = (
            _spread(found.experts, part_NA, cards.experts)
            for part_NA in (
                found.quality_NA,
                found.stderr_NA,
                found.output_tokens_NA,
                found.latency_s_NA,
            )
        )
        alike_NA = self._alike(features.texts, cards)
        card_NA = self._by_card(alike_NA, cards)
        card_error_NA = np.sqrt(card_NA * (1 - card_NA) / (_STRENGTH + cards.probes_A)) + _LEAST
        nearest_N1 = (alike_NA - 2.0 * ~cards.first_A).max(axis=1, initial=-1.0, keepdims=True)
        gate_N1 = 1 / (1 + np.exp(-self.sharpness * (nearest_N1 - self.threshold)))
        return Estimates(
            cards.experts,
            _blend(gate_N1, card_NA, local_NA),
            _blend(gate_N1, card_error_NA, local_error_NA),
            tokens_NA,
            latency_NA,
        )

    def add_expert(
        self, expert: str, features: FeatureBatch, probes: OutcomeTable, description: str = ""
    ) -> Self:
        cards = fitted(self._cards)
        outcomes = probes_of(expert, cards.experts, features, probes)
        encoder = fitted(self._encoder)
        alone = CardTable(
            (expert,),
            (description,),
            embedded(encoder, (description,)),
            np.zeros(1, dtype=bool),
            np.zeros(1),
            np.zeros(1),
        )
        if len(probes):
            expected_N1 = self._by_card(
                self._alike(features.texts, alone), replace(alone, probes_A=np.ones(1))
            )
            ahead_A = (outcomes.weight_NA * (outcomes.score_NA - expected_N1)).sum(axis=0)
            count_A = (outcomes.weight_NA > 0).sum(axis=0).astype(np.float64)
            alone = replace(alone, offset_A=ahead_A / (count_A + _STRENGTH), probes_A=count_A)
        result = self._again()
        result._cards = cards.with_one(alone)
        return result

    def remove_expert(self, expert: str) -> Self:
        cards = fitted(self._cards)
        if expert not in cards.experts:
            raise RoutingError(f"there is no expert {expert!r} to remove")
        result = self._again()
        result._cards = cards.take([i for i, other in enumerate(cards.experts) if other != expert])
        return result

    def state(self) -> State:
        cards = fitted(self._cards)
        params: dict[str, Any] = {
            "descriptions": self.descriptions,
            "local": self.local,
            "encoder": self.encoder,
            "sharpness": self.sharpness,
            "threshold": self.threshold,
            "experts": list(cards.experts),
            "described": list(cards.descriptions),
            "encoder_kind": fitted(self._encoder).name,
        }
        if isinstance(self.instructor, WrittenInstructor):
            params["written"] = self.instructor.written
        arrays = {
            "cards": cards.vectors_AD,
            "first": cards.first_A,
            "offset": cards.offset_A,
            "probes": cards.probes_A,
        }
        parts = {
            "encoder_state": fitted(self._encoder).state(),
            "link": fitted(self._link).state(),
            "local_state": fitted(self._local).state(),
        }
        return join_states((params, arrays), parts)

    @classmethod
    def from_state(cls, state: State) -> Self:
        params, arrays = state
        result = cls(*(params[name] for name in _SETTINGS))
        if "written" in params:
            result.instructor = WrittenInstructor(params["written"])
        result._cards = CardTable(
            tuple(params["experts"]),
            tuple(params["described"]),
            *(arrays[name] for name in ("cards", "first", "offset", "probes")),
        )
        result._encoder = encoder_class(params["encoder_kind"]).from_state(
            part_state(state, "encoder_state")
        )
        result._link = Link.from_state(part_state(state, "link"))
        result._local = estimator_class(result.local).from_state(part_state(state, "local_state"))
        return result

    def _again(self) -> Self:
        result = self.described(self.descriptions)
        result._encoder, result._cards = self._encoder, self._cards
        result._link, result._local = self._link, self._local
        return result

    def _alike(self, texts: Sequence[str], cards: CardTable) -> Floats:
        """Similarity of what each text asks for and each card, (N, A)."""
        instructions = [self.instructor.instruction(text) for text in texts]
        alike_NA = fitted(self._encoder).encode(instructions) @ cards.vectors_AD.T
        return alike_NA.astype(np.float64)

    def _by_card(self, alike_NA: Floats, cards: CardTable) -> Floats:
        """Quality by the cards alone; NaN for experts that nothing is known of."""
        quality_NA = fitted(self._link).quality(alike_NA) + cards.offset_A
        clipped_NA = np.minimum(np.maximum(quality_NA, 0.0), 1.0)
        return np.where(cards.known(), clipped_NA, np.nan)


def _encoder(name: str | None) -> Encoder:
    if name is not None:
        return make_encoder(name)
    try:
        return make_encoder(_BEST_ENCODER)
    except MissingExtraError:
        return make_encoder(_PLAIN_ENCODER)


def _spread(experts: Sequence[str], part_NB: Floats, wanted: Sequence[str]) -> Floats:
    """The columns of `experts` as those of `wanted`; NaN where it has none."""
    place = {expert: index for index, expert in enumerate(experts)}
    columns = np.array([place.get(expert, len(experts)) for expert in wanted], dtype=np.intp)
    return np.column_stack([part_NB, np.full(len(part_NB), np.nan)])[:, columns]


def _blend(gate_N1: Floats, card_NA: Floats, local_NA: Floats) -> Floats:
    """Both, by the gate; where one is unknown, the other."""
    card_NA, local_NA = (
        np.where(np.isnan(card_NA), local_NA, card_NA),
        np.where(np.isnan(local_NA), card_NA, local_NA),
    )
    blended_NA: Floats = gate_N1 * card_NA + (1 - gate_N1) * local_NA
    return blended_NA
