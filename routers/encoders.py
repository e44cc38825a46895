"""Text to vectors: a hashing encoder that learns nothing, and TF-IDF reduced by an SVD."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np

from routers.records import State, Vectors


class HashingEncoder:
    """Words hashed into a fixed number of places. Static: it learns nothing and needs no state.

    Args:
        dimensions: Length of a vector.
    """

    name = "hashing"

    def __init__(self, dimensions: int = 64) -> None:
        self.dimensions = dimensions

    def fit(self, texts: Sequence[str], rng: np.random.Generator) -> Self:
        return self

    def encode(self, texts: Sequence[str]) -> Vectors:
        raise NotImplementedError

    def state(self) -> State:
        return {"dimensions": self.dimensions}, {}

    @classmethod
    def from_state(cls, state: State) -> Self:
        return cls(int(state[0]["dimensions"]))


class TfidfSvdEncoder:
    """Word TF-IDF (sublinear), reduced by a truncated SVD to unit length.

    Args:
        dimensions: Length of a vector; fewer when the corpus is small.
    """

    name = "tfidf"

    def __init__(self, dimensions: int = 128) -> None:
        self.dimensions = dimensions

    def fit(self, texts: Sequence[str], rng: np.random.Generator) -> Self:
        raise NotImplementedError

    def encode(self, texts: Sequence[str]) -> Vectors:
        raise NotImplementedError

    def state(self) -> State:
        raise NotImplementedError

    @classmethod
    def from_state(cls, state: State) -> Self:
        raise NotImplementedError
