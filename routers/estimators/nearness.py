"""How near a request is to anything that was learned from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from routers.records import Floats, Vectors

# A sample tells what is strange as well as all rows do, and every decision looks through it.
_MOST_ROWS = 500
_FEW = 5
_BLOCK = 1024


@dataclass(frozen=True, slots=True, eq=False)
class Nearness:
    """A sample of the rows, and how near its nearest ones are.

    Attributes:
        vectors_DN: One unit-length vector per row, in columns.
    """

    vectors_DN: Vectors

    @classmethod
    def of(cls, vectors_ND: Vectors, rng: np.random.Generator) -> Self:
        """Of at most 500 of these rows."""
        if len(vectors_ND) > _MOST_ROWS:
            chosen = rng.choice(len(vectors_ND), _MOST_ROWS, replace=False)
            vectors_ND = vectors_ND[np.sort(chosen)]
        return cls(np.ascontiguousarray(vectors_ND.T))

    def near(self, vectors_ND: Vectors) -> Floats:
        """Mean cosine of the five nearest rows of the sample, shape (N,)."""
        few = min(_FEW, self.vectors_DN.shape[1])
        near_N = np.empty(len(vectors_ND))
        for start in range(0, len(vectors_ND), _BLOCK):
            alike_BN = vectors_ND[start : start + _BLOCK] @ self.vectors_DN
            alike_BN.partition(alike_BN.shape[1] - few, axis=1)
            near_N[start : start + _BLOCK] = np.add.reduce(alike_BN[:, -few:], axis=1) / few
        return near_N
