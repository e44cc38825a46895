"""How much better than the plainer choice something must look before a router chooses it.

A router over many compositions that are nearly as good as each other chooses the one whose estimate
errs most in its favour. So the best fixed choice, and single experts, are left only for what looks
better by a margin; the margins are those that would have paid on training rows, by estimates that
had not seen them. Margins without end are the fixed choice, and the router over single experts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Self

import numpy as np
import numpy.typing as npt

from routers.errors import TableError
from routers.fitting.practice import Practice
from routers.policies.greedy import good_enough, known_costs, on_the_best, utilities
from routers.records import Candidates, Floats, Preference

Columns = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]

WITHOUT_END = 1e9
"""A margin that nothing brings; a number, because files of routers hold no infinity."""
_MARGINS = (0.0, 0.01, 0.02, 0.04, 0.08, WITHOUT_END)


@dataclass(frozen=True, slots=True)
class Caution:
    """Margins of expected utility.

    Attributes:
        fixed: Column of the best fixed choice.
        over_fixed: What anything else must be expected to gain over it.
        over_singles: What a composition must be expected to gain over single experts.
    """

    fixed: int
    over_fixed: float
    over_singles: float

    @classmethod
    def fit(
        cls,
        expected_NA: Floats,
        utility_NA: Floats,
        composed_A: Mask,
        *,
        fixed: int | None = None,
        groups: Sequence[str] | None = None,
    ) -> Self:
        """The margins that would have paid most; the fixed choice where no gain is beyond chance.

        Args:
            expected_NA: Utility expected of each choice, by fits that had not seen the row.
            utility_NA: What it was.
            composed_A: Which of the choices are compositions.
            fixed: Column of the fixed choice; None for the best one.
            groups: Rows of one group are near-identical; None: no two are.
        """
        rows = np.arange(len(utility_NA))
        group_N = rows if groups is None else np.unique(groups, return_inverse=True)[1]
        fixed = int(utility_NA.mean(axis=0).argmax()) if fixed is None else fixed
        stays = cls(fixed, WITHOUT_END, 0.0)
        best, most = stays, 0.0
        for over_fixed, over_singles in product(_MARGINS, repeat=2):
            tried = cls(fixed, over_fixed, over_singles)
            columns_N = tried.columns(expected_NA, composed_A)
            gain_N = utility_NA[rows, columns_N] - utility_NA[:, fixed]
            mean = float(gain_N.mean())
            if mean > max(most, chance_of(gain_N, group_N)):
                best, most = tried, mean
        return best

    def columns(self, expected_NA: Floats, composed_A: Mask) -> Columns:
        """What is chosen for each request, shape (N,)."""
        handicap_A = np.where(composed_A, self.over_singles, 0.0) + self.over_fixed
        handicap_A[self.fixed] = 0.0
        columns_N: Columns = (expected_NA - handicap_A).argmax(axis=1)
        return columns_N


def chance_of(gain_N: Floats, group_N: Columns) -> float:
    """The standard error of a mean gain over groups of rows that are drawn whole.

    Args:
        gain_N: One for each row.
        group_N: Numbers of their groups, from 0.
    """
    off_N = gain_N - gain_N.mean()
    return float(np.linalg.norm(np.bincount(group_N, off_N))) / len(gain_N)


@dataclass(frozen=True, slots=True)
class CautiousPolicy:
    """The usual expert, unless another one is expected to be better by a margin.

    Fitted, the usual expert is the one of highest mean utility on the rehearsal, and the margins
    are those that would have paid most there: one for whoever else is asked, and one more for
    compositions. Who has no outcome yet is never the usual one, and teaches nothing.

    Unfitted, or where the usual expert can't be asked, it is greedy, but for the second margin.

    Attributes:
        usual: Id of the expert that is left unwillingly; "" for the best one on the rehearsal.
        margin: Utility, in quality points, that anybody else must bring; None before it is fitted.
        composed_margin: What a composition must bring on top of that.
        composed: Ids of the compositions that there were when it was fitted.
    """

    name = "cautious"

    usual: str = ""
    margin: float | None = None
    composed_margin: float = 0.0
    composed: tuple[str, ...] = ()

    @property
    def is_fitted(self) -> bool:
        return self.margin is not None

    def distribution(self, candidates: Candidates, preference: Preference) -> tuple[Floats, Floats]:
        utility_A = utilities(candidates, preference)
        experts = candidates.experts
        margin_A = np.array([self.composed_margin if e in self.composed else 0.0 for e in experts])
        if self.margin is not None and self.usual in experts:
            usual = experts.index(self.usual)
            if good_enough(candidates, preference)[usual]:
                margin_A += self.margin
                margin_A[usual] = 0.0
        return on_the_best(utility_A - margin_A, candidates, preference), utility_A

    def fit(self, practice: Practice, preference: Preference) -> Self:
        known_A = np.any(~np.isnan(practice.score_NA), axis=0)
        fixed = practice.column(self.usual) if self.usual else None
        if not (known_A.any() if fixed is None else known_A[fixed]):
            raise TableError(f"no outcome of {self.usual or 'any expert'} is known")
        queries = practice.queries
        expected_NA = np.stack([utilities(query, preference) for query in queries])
        usd_NA = np.stack([known_costs(query) for query in queries]) - practice.spend
        scale_N1 = np.array([[query.cost_scale_usd] for query in queries])
        saved_NA = preference.cost_weight * usd_NA / scale_N1
        came_NA = expected_NA + practice.value - practice.quality + saved_NA
        composed_A = np.array([expert in practice.composed for expert in practice.experts])
        caution = Caution.fit(
            np.where(known_A, expected_NA, -np.inf),
            np.where(known_A, came_NA, -np.inf),
            composed_A,
            fixed=fixed,
        )
        return replace(
            self,
            usual=practice.experts[caution.fixed],
            margin=caution.over_fixed,
            composed_margin=caution.over_singles,
            composed=tuple(sorted(practice.composed)),
        )
