"""Examples from the log, and which of them are nearest to a request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from routers.base import Encoder
from routers.errors import TableError
from routers.records import State, Vectors
from routers.registry import encoder_class
from routers.storage.state_files import load_state, save_state
from routers.storage.states import join_states, part_state

KIND = "shelf"
_SAME = 0.98
_VOTERS = 15


@dataclass(frozen=True, slots=True)
class ShelfExample:
    """One question, and what is to be told with it.

    Attributes:
        question: As it was asked.
        text: A checked answer with its reasoning, or a guideline for questions like it.
        task: Which kind of question, None unknown.
    """

    question: str
    text: str
    task: str | None = None


class Shelf:
    """Retrieves examples by cosine within the kind of question that a request seems to be.

    The kind is the commonest among the fifteen nearest examples. Never retrieved are the request's
    own question, however it is spelt and spaced, and what is nearly the same (cosine above .98): an
    example must not give the answer away.

    Args:
        examples: In any order.
        vectors_ND: Of their questions, unit length, shape (N, D).
        encoder: Fitted; it made the vectors.

    Source: Nori et al., "Can Generalist Foundation Models Outcompete Special-Purpose Tuning?",
    2023 (neighbours as examples); Feng et al., "FusionFactory", 2025 (within the same task).
    """

    def __init__(
        self, examples: Sequence[ShelfExample], vectors_ND: Vectors, encoder: Encoder
    ) -> None:
        self.examples = tuple(examples)
        self.encoder = encoder
        self._vectors_ND = vectors_ND
        self._keys = [_key(example.question) for example in self.examples]

    @classmethod
    def build(
        cls, examples: Sequence[ShelfExample], encoder: Encoder, rng: np.random.Generator
    ) -> Shelf:
        """A shelf whose encoder has learned from its questions.

        Raises:
            TableError: There is no example.
        """
        if not examples:
            raise TableError("there is no example to put on a shelf")
        questions = [example.question for example in examples]
        fitted = encoder.fit(questions, rng)
        return cls(examples, fitted.encode(questions), fitted)

    def near(self, question: str, most: int) -> tuple[ShelfExample, ...]:
        """The nearest examples, the nearest first; fewer than `most` if there are no more."""
        cosine_N = (self._vectors_ND @ self.encoder.encode([question])[0]).astype(np.float64)
        own = _key(question)
        barred_N = np.array([key == own for key in self._keys]) | (cosine_N > _SAME)
        # Ties go to what stands first, so that the same request always sees the same examples.
        order = np.argsort(-cosine_N, kind="stable")
        allowed = [int(row) for row in order if not barred_N[row]]
        task = self._task(allowed[:_VOTERS])
        return tuple(
            [self.examples[row] for row in allowed if self.examples[row].task == task][:most]
        )

    def _task(self, rows: Sequence[int]) -> str | None:
        """What most of `rows` are; of equally many, that of the nearest."""
        votes = Counter(self.examples[row].task for row in rows)
        return max(votes, key=lambda task: votes[task], default=None)

    def state(self) -> State:
        params: dict[str, Any] = {
            "examples": [asdict(example) for example in self.examples],
            "encoder_kind": self.encoder.name,
        }
        return join_states(
            (params, {"vectors": self._vectors_ND}), {"encoder": self.encoder.state()}
        )

    @classmethod
    def from_state(cls, state: State) -> Shelf:
        params, arrays = state
        encoder = encoder_class(params["encoder_kind"]).from_state(part_state(state, "encoder"))
        examples = [ShelfExample(**each) for each in params["examples"]]
        return cls(examples, arrays["vectors"], encoder)

    def save(self, path: Path) -> str:
        """Write it to a file; returns the hash of its content."""
        return save_state(KIND, self.state(), path)

    @classmethod
    def load(cls, path: Path) -> Shelf:
        """Read it back.

        Raises:
            ArtifactError: The file is missing, damaged, or no shelf.
        """
        return cls.from_state(load_state(KIND, path))


def _key(question: str) -> str:
    return " ".join(question.casefold().split())
