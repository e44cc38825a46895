"""What the experts' cards say, as vectors, and how newcomers did beside what theirs say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from routers.base import Encoder
from routers.records import Floats, Vectors


@dataclass(frozen=True, slots=True, eq=False)
class CardTable:
    """What is known of the experts besides what the local estimator learned, columns sorted by id.

    Attributes:
        experts: Ids, length A.
        descriptions: What they are good at, "" when unknown.
        vectors_AD: Embedded descriptions; zeros where there is none.
        first_A: Whether the expert was there when the estimator was fitted.
        offset_A: How much better than its card an added expert did on its probes.
        probes_A: How many probes it had.
    """

    experts: tuple[str, ...]
    descriptions: tuple[str, ...]
    vectors_AD: Vectors
    first_A: npt.NDArray[np.bool_]
    offset_A: Floats
    probes_A: Floats

    def take(self, places: Sequence[int]) -> CardTable:
        pick = list(places)
        return CardTable(
            tuple(self.experts[place] for place in pick),
            tuple(self.descriptions[place] for place in pick),
            self.vectors_AD[pick],
            self.first_A[pick],
            self.offset_A[pick],
            self.probes_A[pick],
        )

    def known(self) -> npt.NDArray[np.bool_]:
        """Whether anything says how good an expert is."""
        described_A = np.array([bool(description) for description in self.descriptions], dtype=bool)
        return described_A | (self.probes_A > 0)

    def with_one(self, other: CardTable) -> CardTable:
        """These and the one expert of `other`, sorted."""
        both = CardTable(
            self.experts + other.experts,
            self.descriptions + other.descriptions,
            np.concatenate([self.vectors_AD, other.vectors_AD]),
            np.concatenate([self.first_A, other.first_A]),
            np.concatenate([self.offset_A, other.offset_A]),
            np.concatenate([self.probes_A, other.probes_A]),
        )
        return both.take(sorted(range(len(both.experts)), key=both.experts.__getitem__))


def embedded(encoder: Encoder, descriptions: Sequence[str]) -> Vectors:
    """One vector per description, float32, shape (A, D); zeros for an empty one."""
    vectors_AD = encoder.encode(descriptions)
    vectors_AD[[not description for description in descriptions]] = 0.0
    return vectors_AD
