"""How much better than the plainer choice something must look before a router chooses it.

A router over many compositions that are nearly as good as each other chooses the one whose estimate
errs most in its favour. So the best fixed choice, and the best single expert, are left only for
what looks better by a margin; the margins are those that would have paid on training rows, by
estimates that had not seen them. Margins without end are the fixed choice, and the router over
single experts.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Self

import numpy as np
import numpy.typing as npt

from routers.records import Floats

Columns = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]

_MARGINS = (0.0, 0.01, 0.02, 0.04, 0.08, np.inf)


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
    def fit(cls, expected_NA: Floats, utility_NA: Floats, composed_A: Mask) -> Self:
        """The margins that would have paid most; the fixed choice where no gain is beyond chance.

        Args:
            expected_NA: Utility expected of each choice, by fits that had not seen the row.
            utility_NA: What it was.
            composed_A: Which of the choices are compositions.
        """
        rows = np.arange(len(utility_NA))
        fixed = int(utility_NA.mean(axis=0).argmax())
        stays = cls(fixed, np.inf, 0.0)
        best, most = stays, 0.0
        for over_fixed, over_singles in product(_MARGINS, repeat=2):
            tried = cls(fixed, over_fixed, over_singles)
            columns_N = tried.columns(expected_NA, composed_A)
            gain_N = utility_NA[rows, columns_N] - utility_NA[:, fixed]
            chance = float(gain_N.std()) / np.sqrt(len(rows))
            if gain_N.mean() > max(most, chance):
                best, most = tried, float(gain_N.mean())
        return best

    def columns(self, expected_NA: Floats, composed_A: Mask) -> Columns:
        """What is chosen for each request, shape (N,)."""
        handicap_A = np.where(composed_A, self.over_singles, 0.0) + self.over_fixed
        handicap_A[self.fixed] = 0.0
        if np.isinf(self.over_fixed):
            return np.full(len(expected_NA), self.fixed, dtype=np.intp)
        columns_N: Columns = (expected_NA - handicap_A).argmax(axis=1)
        return columns_N
