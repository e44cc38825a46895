"""What online estimators share: rows as they arrive, and the few directions they are seen in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from routers.errors import TableError
from routers.estimators.observed import observed
from routers.records import FeatureBatch, Floats, OutcomeTable, State, Vectors

# A learner that sees a row once can't wait for the others that would average a heavy one out.
_HEAVIEST = 10.0
_FLAT = 1e-9


def arrived(
    features: FeatureBatch, table: OutcomeTable, experts: tuple[str, ...]
) -> tuple[Floats, Floats]:
    """Scores, 0 where unobserved, and what each weighs: 1 / propensity, at most 10; (N, A) each.

    Unlike the weights of `observed` these don't depend on which rows come together, so that two
    batches teach what one does.

    Args:
        features: One row per row of `table`.
        table: Outcomes in the order in which they came about.
        experts: Those of the first fit.

    Raises:
        TableError: The table can't be learned from, or is about other experts.
    """
    if table.experts != experts:
        raise TableError(
            f"the rows are about {', '.join(table.experts)}, this estimator was first fitted on "
            f"{', '.join(experts)}; give it the same columns, or fit it anew"
        )
    score_NA = observed(features, table).score_NA
    seen_NA = ~np.isnan(table.score_NA)
    weight_NA = np.zeros_like(score_NA)
    weight_NA[seen_NA] = np.minimum(1 / table.propensity_NA[seen_NA], _HEAVIEST)
    return score_NA, weight_NA


@dataclass(frozen=True, slots=True, eq=False)
class Directions:
    """The principal directions of the rows of the first fit, and a constant.

    Attributes:
        centre_D: Mean vector.
        axes_DP: Orthogonal axes, widest first.
    """

    centre_D: Floats
    axes_DP: Floats

    @classmethod
    def of(cls, vectors_ND: Vectors, most: int, *, whiten: bool = False) -> Self:
        """At most `most` directions; `whiten` scales each to variance 1 over these rows."""
        vectors_64 = vectors_ND.astype(np.float64)
        centre_D = vectors_64.mean(axis=0)
        centred_ND = vectors_64 - centre_D
        values_D, axes_DD = np.linalg.eigh(centred_ND.T @ centred_ND / len(vectors_64))
        wide = np.flatnonzero(values_D > _FLAT)[::-1][:most]
        axes_DP = axes_DD[:, wide]
        return cls(centre_D, axes_DP / np.sqrt(values_D[wide]) if whiten else axes_DP)

    def of_rows(self, vectors_ND: Vectors) -> Floats:
        """The rows along the axes, a 1 in the last column, shape (N, P + 1)."""
        along_NP = (vectors_ND - self.centre_D) @ self.axes_DP
        return np.hstack([along_NP, np.ones((len(along_NP), 1))])

    def state(self) -> State:
        return {}, {"centre": self.centre_D, "axes": self.axes_DP}

    @classmethod
    def from_state(cls, state: State) -> Self:
        return cls(state[1]["centre"], state[1]["axes"])
