"""One threshold on the signal of a draft, fitted to a budget, to a share, or to a risk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from routers.errors import TableError
from routers.policies.conformal import lowest_threshold
from routers.records import Floats

_NEVER_REACHED = 2.0


@dataclass(frozen=True, slots=True)
class DeferralThreshold:
    """Drafts below it are deferred, and of those that are exactly on it a share.

    A signal with few values, such as the agreement of five samples, could otherwise not meet a
    budget: whole plateaus would be deferred or kept.

    Attributes:
        at: The signal that must be passed, in [0, 1]; above 1 defers everything.
        tied: Which share of the drafts exactly at `at` is deferred, in [0, 1].
    """

    at: float
    tied: float = 0.0

    def deferred(self, signal_N: Floats) -> Floats:
        """P(deferred) of each draft, in [0, 1]: the propensity to be logged."""
        return np.where(signal_N < self.at, 1.0, np.where(signal_N == self.at, self.tied, 0.0))

    def defers(self, signal: float, uniform: float) -> bool:
        """Whether one draft is deferred; `uniform` in [0, 1) decides on ties."""
        return signal < self.at or (signal == self.at and uniform < self.tied)

    @classmethod
    def of_share(cls, signal_N: Floats, share: float) -> Self:
        """What defers this share of drafts like those given, exactly on them.

        Args:
            signal_N: Signals of logged drafts.
            share: In [0, 1].

        Raises:
            TableError: There is no draft.
        """
        return cls._of_weight(signal_N, np.ones(len(signal_N)), share * len(signal_N))

    @classmethod
    def of_budget(
        cls, signal_N: Floats, draft_usd_N: Floats, next_usd_N: Floats, budget_usd: float
    ) -> Self:
        """What spends the budget on requests like those given, exactly on them.

        Args:
            signal_N: Signals of logged drafts.
            draft_usd_N: Dollars that each draft cost, its samples and checks included.
            next_usd_N: Dollars that deferring it costs on top.
            budget_usd: Mean dollars per request to spend; what passes both ends is as near as the
                two experts come.

        Raises:
            TableError: There is no draft.

        Source: the threshold of Chen, Zaharia & Zou, "FrugalGPT", 2023, for a chain of two.
        """
        left = budget_usd * len(signal_N) - float(draft_usd_N.sum())
        return cls._of_weight(signal_N, next_usd_N, left)

    @classmethod
    def of_risk(cls, signal_N: Floats, lost_N: Floats, risk: float) -> Self:
        """The lowest that keeps the expected loss of kept drafts, over all requests, within `risk`.

        Whatever the signal is worth: a bad one only defers more. It holds for traffic like the
        logged drafts, on average over draws of them.

        Args:
            signal_N: Signals of logged drafts that no fit had seen.
            lost_N: What keeping each loses, in [0, 1], such as 1 − score.
            risk: α in (0, 1).

        Raises:
            TableError: There is no draft.

        Source: Angelopoulos et al., "Conformal Risk Control", 2022.
        """
        _check_any(signal_N)
        return cls(lowest_threshold(signal_N, lost_N, risk))

    @classmethod
    def _of_weight(cls, signal_N: Floats, weight_N: Floats, left: float) -> Self:
        _check_any(signal_N)
        order_N = np.argsort(signal_N, kind="stable")
        values_V, starts_V = np.unique(signal_N[order_N], return_index=True)
        weight_V = np.add.reduceat(weight_N[order_N], starts_V)
        spent_V = np.cumsum(weight_V)
        if left >= spent_V[-1]:
            return cls(_NEVER_REACHED)
        place = int(np.searchsorted(spent_V, left, side="right"))
        before = float(spent_V[place - 1]) if place else 0.0
        tied = (left - before) / float(weight_V[place]) if weight_V[place] > 0 else 0.0
        return cls(float(values_V[place]), float(np.clip(tied, 0.0, 1.0)))


def _check_any(signal_N: Floats) -> None:
    if not len(signal_N):
        raise TableError("no draft with its signal is known, so no threshold can be fitted")
