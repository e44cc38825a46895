"""A gate fitted from preferences, with all that it needs to score an answer; on disk, no pickle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from eval.errors import ComparisonError
from eval.judging.debias import length_weight
from eval.judging.gate import ObjectiveGate, Preferences
from routers.base import Encoder
from routers.errors import ArtifactError, RoutingError
from routers.records import Floats, State
from routers.registry import encoder_class
from routers.storage.state_files import load_state, save_state
from routers.storage.states import join_states, part_state

_KIND = "gate of a judge"
_GATE = ("hidden_DH", "bias_H", "out_HK", "bias_K")
_FEWEST = 20
_HELD_OUT = 5


class Judged(NamedTuple):
    """One score of several.

    Attributes:
        score: In [0, 1].
        told: How much each objective counted, for people.
    """

    score: float
    told: str


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of answers to the same prompt, one of which was preferred.

    Attributes:
        prompts: Length N.
        objectives: What the columns are, length K.
        chosen_NK: The preferred answer's score by each objective, in [0, 1].
        rejected_NK: The other one's.
        length_N2: Tokens of the preferred and of the other answer; NaN where unknown.
    """

    prompts: Sequence[str]
    objectives: tuple[str, ...]
    chosen_NK: Floats
    rejected_NK: Floats
    length_N2: Floats

    def __len__(self) -> int:
        return len(self.prompts)


@dataclass(frozen=True, slots=True)
class AgreementReport:
    """How often each way of scoring agrees with preferences that no fit had seen.

    Attributes:
        pairs: How many.
        gate: Share of them that the gate orders as people did.
        equal: The same, were all objectives to count alike.
        best_single: The same by the best objective alone, and which.
        best: Its name.
        length_weight: What each objective loses by a token of length.
    """

    pairs: int
    gate: float
    equal: float
    best_single: float
    best: str
    length_weight: Mapping[str, float]


@dataclass(frozen=True, slots=True, eq=False)
class FittedGate:
    """Several scores of an answer to one, by the prompt and free of length.

    Attributes:
        objectives: What it takes, length K.
        encoder: Fitted; prompts to vectors.
        gate: Weights by the vector.
        length_weight_K: λ of each objective, per token.
        length: Tokens of a typical answer, which loses nothing.
        about: How it was made, JSON-able.
    """

    objectives: tuple[str, ...]
    encoder: Encoder
    gate: ObjectiveGate
    length_weight_K: Floats
    length: float
    about: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def fit(cls, pairs: Pairs, encoder: Encoder, seed: int) -> FittedGate:
        """Take out of each objective what it owes to length, then fit the gate.

        Args:
            pairs: What was preferred.
            encoder: Not fitted yet, or static.
            seed: Source of all randomness.

        Raises:
            ComparisonError: Fewer than 20 pairs, or one objective only.
        """
        if len(pairs) < _FEWEST or len(pairs.objectives) < 2:
            raise ComparisonError(
                f"{len(pairs)} pairs by {len(pairs.objectives)} objectives are too few to fit a "
                f"gate: it needs {_FEWEST} pairs and two objectives"
            )
        rng = np.random.default_rng(seed)
        fitted = encoder.fit(pairs.prompts, rng)
        weight_K, length = _length_weights(pairs)
        vector_ND = fitted.encode(pairs.prompts).astype(np.float64)
        chosen_NK, rejected_NK = _fair(pairs, weight_K, length)
        gate = ObjectiveGate.fit(Preferences(vector_ND, chosen_NK, rejected_NK), rng)
        about = {"pairs": len(pairs), "seed": seed, "encoder": fitted.name}
        return cls(pairs.objectives, fitted, gate, weight_K, length, about)

    def score(self, prompts: Sequence[str], score_NK: Floats, length_N: npt.ArrayLike) -> Floats:
        """One score per answer, in [0, 1], length N.

        Args:
            prompts: What was asked, length N.
            score_NK: By each objective, in the order of `objectives`.
            length_N: Tokens of each answer; NaN unknown, which counts as typical.
        """
        vector_ND = self.encoder.encode(prompts).astype(np.float64)
        fair_NK = score_NK - self.length_weight_K * _longer(length_N, self.length)[:, None]
        return np.clip(self.gate.score(vector_ND, fair_NK), 0.0, 1.0)

    def judge(self, prompt: str, scores: Mapping[str, float], length: float) -> Judged:
        """The same of one answer, with how much each objective counted."""
        score_1K = np.array([[scores[name] for name in self.objectives]])
        weight_K = self.gate.weights(self.encoder.encode([prompt]).astype(np.float64))[0]
        shares = zip(self.objectives, weight_K.tolist(), strict=True)
        told = ", ".join(f"{name} {share:.0%}" for name, share in shares)
        return Judged(float(self.score([prompt], score_1K, [length])[0]), told)

    def state(self) -> State:
        params = {
            "objectives": list(self.objectives),
            "encoder_kind": self.encoder.name,
            "scale": self.gate.scale,
            "length": self.length,
            "about": dict(self.about),
        }
        arrays = {name: getattr(self.gate, name) for name in _GATE}
        arrays["length_weight_K"] = self.length_weight_K
        return join_states((params, arrays), {"encoder": self.encoder.state()})

    @classmethod
    def from_state(cls, state: State) -> FittedGate:
        params, arrays = state
        encoder = encoder_class(params["encoder_kind"]).from_state(part_state(state, "encoder"))
        gate = ObjectiveGate(**{name: arrays[name] for name in _GATE}, scale=params["scale"])
        objectives, weight_K = tuple(params["objectives"]), arrays["length_weight_K"]
        return cls(objectives, encoder, gate, weight_K, params["length"], params["about"])

    def save(self, path: Path) -> None:
        """Write it to a file, in folders that are made if need be."""
        path.parent.mkdir(parents=True, exist_ok=True)
        save_state(_KIND, self.state(), path)

    @classmethod
    def load(cls, path: Path) -> FittedGate:
        """Read it back.

        Raises:
            ArtifactError: The file is missing, damaged, or no gate of this version.
        """
        try:
            return cls.from_state(load_state(_KIND, path))
        except (RoutingError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, ArtifactError):
                raise
            raise ArtifactError(f"'{path}' holds no gate of this version: {error}") from error


def tried(pairs: Pairs, encoder: Encoder, seed: int) -> AgreementReport:
    """Fit on four fifths of the prompts and compare on the rest, fold by fold.

    Raises:
        ComparisonError: Too few pairs.
    """
    order = np.random.default_rng(seed).permutation(len(pairs))
    # The same prompt is never on both sides.
    fold_of = {
        prompt: place % _HELD_OUT
        for place, prompt in enumerate(dict.fromkeys(pairs.prompts[row] for row in order.tolist()))
    }
    fold_N = np.array([fold_of[prompt] for prompt in pairs.prompts])
    right_N = np.zeros(len(pairs))
    for fold in range(_HELD_OUT):
        out = np.flatnonzero(fold_N == fold)
        if len(out):
            fitted = FittedGate.fit(_take(pairs, np.flatnonzero(fold_N != fold)), encoder, seed)
            right_N[out] = _right(*_scored(fitted, _take(pairs, out)))
    weight_K, length = _length_weights(pairs)
    chosen_NK, rejected_NK = _fair(pairs, weight_K, length)
    alone_K = [
        float(_right(chosen_NK[:, place], rejected_NK[:, place]).mean())
        for place in range(len(pairs.objectives))
    ]
    best = int(np.argmax(alone_K))
    return AgreementReport(
        len(pairs),
        float(right_N.mean()),
        float(_right(chosen_NK.mean(axis=1), rejected_NK.mean(axis=1)).mean()),
        alone_K[best],
        pairs.objectives[best],
        dict(zip(pairs.objectives, weight_K.tolist(), strict=True)),
    )


def _scored(fitted: FittedGate, pairs: Pairs) -> tuple[Floats, Floats]:
    vector_ND = fitted.encoder.encode(pairs.prompts).astype(np.float64)
    chosen_NK, rejected_NK = _fair(pairs, fitted.length_weight_K, fitted.length)
    return fitted.gate.score(vector_ND, chosen_NK), fitted.gate.score(vector_ND, rejected_NK)


def _right(chosen_N: Floats, rejected_N: Floats) -> Floats:
    """1 where the chosen one scores more, a half for a tie."""
    return np.asarray((np.sign(chosen_N - rejected_N) + 1) / 2, dtype=np.float64)


def _take(pairs: Pairs, rows: npt.NDArray[np.intp]) -> Pairs:
    return Pairs(
        [pairs.prompts[row] for row in rows.tolist()],
        pairs.objectives,
        pairs.chosen_NK[rows],
        pairs.rejected_NK[rows],
        pairs.length_N2[rows],
    )


def _length_weights(pairs: Pairs) -> tuple[Floats, float]:
    """λ of each objective over all answers of known length, and their mean length."""
    score_MK = np.concatenate([pairs.chosen_NK, pairs.rejected_NK])
    length_M = np.concatenate([pairs.length_N2[:, 0], pairs.length_N2[:, 1]])
    known_M = np.isfinite(length_M)
    if known_M.sum() < _FEWEST:
        return np.zeros(len(pairs.objectives)), 0.0
    weights = [length_weight(column_M[known_M], length_M[known_M]) for column_M in score_MK.T]
    return np.array(weights), float(length_M[known_M].mean())


def _fair(pairs: Pairs, weight_K: Floats, length: float) -> tuple[Floats, Floats]:
    longer_N2 = np.nan_to_num(pairs.length_N2 - length)
    return (
        pairs.chosen_NK - weight_K * longer_N2[:, :1],
        pairs.rejected_NK - weight_K * longer_N2[:, 1:],
    )


def _longer(length_N: npt.ArrayLike, typical: float) -> Floats:
    return np.nan_to_num(np.asarray(length_N, dtype=np.float64) - typical)
