"""The seams that outsiders implement: encoder, estimator, policy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, Self

import numpy as np

from routers.records import (
    Candidates,
    Estimates,
    FeatureBatch,
    Floats,
    OutcomeTable,
    Preference,
    State,
    Vectors,
)


class Encoder(Protocol):
    """Text to vectors. `name` is what the artifact's manifest and the registry call it."""

    name: str

    def fit(self, texts: Sequence[str], rng: np.random.Generator) -> Self:
        """Learn from `texts` what there is to learn; a static encoder returns itself."""
        ...

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Unit-length (or zero) float32 vectors, shape (len(texts), D)."""
        ...

    def state(self) -> State: ...

    @classmethod
    def from_state(cls, state: State) -> Self: ...


class Estimator(Protocol):
    """State of a request to a calibrated quality per expert, prices left out.

    The constructor only stores settings. `fit` returns the fitted estimator and draws from `rng`
    alone; `predict` is pure. `from_state(x.state())` predicts what `x` predicts.
    """

    name: str

    def fit(self, features: FeatureBatch, table: OutcomeTable, rng: np.random.Generator) -> Self:
        """Learn from `table`, whose rows are those of `features`.

        Raises:
            RoutingError: The table lacks what this estimator needs; the message says what.
        """
        ...

    def predict(self, features: FeatureBatch) -> Estimates:
        """Estimates for the experts of the table it was fitted on, in that order."""
        ...

    def state(self) -> State: ...

    @classmethod
    def from_state(cls, state: State) -> Self: ...


class Policy(Protocol):
    """Estimates, costs and wishes to a distribution over experts. Pure: no randomness, no I/O."""

    name: str

    def distribution(self, candidates: Candidates, preference: Preference) -> tuple[Floats, Floats]:
        """Probabilities, shape (A,), summing to 1, and the utilities they follow from, (A,)."""
        ...
