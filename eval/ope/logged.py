"""What was logged, and what a candidate would have done on the same requests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from eval.errors import OffPolicyError
from routers.records import Floats, OutcomeTable

_SUM_TOLERANCE = 1e-6


class Served(NamedTuple):
    """What came of each request itself, whoever else was asked.

    Attributes:
        score_N: NaN unscored.
        cost_usd_N: NaN unknown.
    """

    score_N: Floats
    cost_usd_N: Floats


class Aside(NamedTuple):
    """Shadow calls: what was asked beside the requests, to learn, and what that cost."""

    calls: int
    cost_usd: float


@dataclass(frozen=True, slots=True, eq=False)
class Logged:
    """Outcomes that were chosen to be seen, with the chance that each had of being seen.

    One row of the table may hold one outcome (the expert that answered), several (shadow calls) or
    all (a collection that asked everybody): what matters is `propensity_NA`, the chance that this
    cell was observed.

    Attributes:
        table: Outcomes; rows of one conversation share a group.
        logged_NA: P(expert answers | request) under what served, rows sum to 1; NaN in rows of
            which only the propensity of what was observed is known.
        eligible_NA: Who could have served the request at all.
        aside_NA: P(observed beside what served), see `eval.ope.sampled`; None: nothing ever is.
    """

    table: OutcomeTable
    logged_NA: Floats
    eligible_NA: npt.NDArray[np.bool_]
    aside_NA: Floats | None = None

    @classmethod
    def of(cls, table: OutcomeTable, logged_NA: Floats | None = None) -> Logged:
        """A log in which every expert was eligible everywhere.

        Args:
            table: Outcomes with their propensities.
            logged_NA: What served, where it is known.
        """
        shape = table.score_NA.shape
        logged_NA = np.full(shape, np.nan) if logged_NA is None else logged_NA
        return cls(table, logged_NA, np.ones(shape, dtype=bool))

    def __len__(self) -> int:
        return len(self.table)

    @property
    def seen(self) -> npt.NDArray[np.bool_]:
        """Which cells have a score, (N, A)."""
        return ~np.isnan(self.table.score_NA)

    @property
    def supported(self) -> npt.NDArray[np.bool_]:
        """Which cells had a chance to be observed, as far as the log says, (N, A).

        Where the serving distribution is not on record, an expert counts as supported if it was
        ever observed in the log.
        """
        known_N1 = ~np.isnan(self.logged_NA).any(axis=1, keepdims=True)
        ever_A = self.seen.any(axis=0)
        found_NA = np.where(known_N1, self.logged_NA > 0, ever_A) | self.seen
        return found_NA if self.aside_NA is None else found_NA | (self.aside_NA > 0)

    def scored(self) -> Logged:
        """Only rows in which something was scored: an unscored answer is unknown, not 0."""
        rows = np.flatnonzero(self.seen.any(axis=1))
        return self.take(rows)

    def take(self, rows: npt.NDArray[np.intp]) -> Logged:
        """The same log with only `rows`, in that order."""
        return replace(
            self,
            table=self.table.take(rows),
            logged_NA=self.logged_NA[rows],
            eligible_NA=self.eligible_NA[rows],
            aside_NA=None if self.aside_NA is None else self.aside_NA[rows],
        )

    def check_target(self, target_NA: Floats) -> Floats:
        """`target_NA`, unless it is no distribution over eligible experts.

        Raises:
            OffPolicyError: Wrong shape, a row that does not sum to 1, or an ineligible expert.
        """
        if target_NA.shape != self.table.score_NA.shape:
            raise OffPolicyError(
                f"the candidate's choices have shape {target_NA.shape}, the log has "
                f"{self.table.score_NA.shape}"
            )
        off_N = ~(np.abs(target_NA.sum(axis=1) - 1) <= _SUM_TOLERANCE) | (target_NA < 0).any(axis=1)
        if off_N.any():
            query = self.table.query_ids[int(np.argmax(off_N))]
            raise OffPolicyError(f"the candidate's choices on {query!r} are no distribution")
        stray_NA = (target_NA > 0) & ~self.eligible_NA
        if stray_NA.any():
            row, column = (int(place) for place in np.argwhere(stray_NA)[0])
            raise OffPolicyError(
                f"the candidate would ask {self.table.experts[column]!r} on "
                f"{self.table.query_ids[row]!r}, which could not have served it"
            )
        return target_NA
