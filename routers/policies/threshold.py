"""The threshold policy: the strong expert for that share of the traffic where it wins the most."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from routers.errors import TableError
from routers.fitting.practice import Practice
from routers.policies.greedy import good_enough, known_costs, on_the_best, utilities
from routers.records import Candidates, Floats, Preference

_NOBODY_WINS_SO_OFTEN = 1e9


@dataclass(frozen=True, slots=True)
class ThresholdPolicy:
    """The strong expert where its win rate reaches a threshold, the weak one elsewhere.

    The win rate of two utilities is (1 + u_strong - u_weak) / 2: with scores of 0 and 1 and no
    weight on anything else, P(strong wins) + P(tie) / 2. Win rates are seldom spread over [0, 1],
    so the threshold is a quantile: `fit` takes the one above which `strong_share` of the traffic
    lies, and where many queries lie on it, the share of those that makes it come out even.

    Unfitted and without a threshold, everything goes to the strong one.

    Source: Ong et al., "RouteLLM: Learning to Route LLMs with Preference Data", 2024; Ding et al.,
    "Hybrid LLM: Cost-Efficient and Quality-Aware Query Routing", 2024.

    Attributes:
        strong_share: Share of the traffic for the strong expert, in [0, 1].
        strong: Its id; "" for the dearer one of two, or after `fit` the best one.
        weak: Id of the other; "" for the cheaper one of two, or after `fit` the cheapest other.
        threshold: Win rate from which on the strong one answers; None before it is fitted.
        at_threshold: Its share of the queries whose win rate is the threshold exactly.
    """

    name = "threshold"

    strong_share: float = 0.5
    strong: str = ""
    weak: str = ""
    threshold: float | None = None
    at_threshold: float = 1.0

    def __post_init__(self) -> None:
        for what in ("strong_share", "at_threshold"):
            if not 0 <= getattr(self, what) <= 1:
                raise ValueError(f"{what} must be in [0, 1], got {getattr(self, what)!r}")

    @property
    def is_fitted(self) -> bool:
        return self.threshold is not None

    def distribution(self, candidates: Candidates, preference: Preference) -> tuple[Floats, Floats]:
        utility_A = utilities(candidates, preference)
        strong, weak = self._pair(candidates, preference)
        if strong is None or weak is None:
            one = strong if weak is None else weak
            if one is None:
                return on_the_best(utility_A, candidates, preference), utility_A
            strong = weak = one
        share = self._share_of(float(_win_rate(utility_A[strong], utility_A[weak])))
        probabilities_A = np.zeros(len(utility_A))
        probabilities_A[strong] += share
        probabilities_A[weak] += 1 - share
        return probabilities_A, utility_A

    def fit(self, practice: Practice, preference: Preference) -> Self:
        strong, weak = self._chosen_pair(practice)
        utility_NA = np.stack([utilities(query, preference) for query in practice.queries])
        win_rate_N = _win_rate(utility_NA[:, strong], utility_NA[:, weak])
        wanted = self.strong_share * len(practice)
        threshold, at_threshold = _NOBODY_WINS_SO_OFTEN, 1.0
        if wanted > 0:
            threshold = float(np.sort(win_rate_N)[::-1][int(np.ceil(wanted)) - 1])
            above, at = (win_rate_N > threshold).sum(), (win_rate_N == threshold).sum()
            at_threshold = float((wanted - above) / at)
        if self.strong_share == 1:
            threshold = -_NOBODY_WINS_SO_OFTEN
        return replace(
            self,
            strong=practice.experts[strong],
            weak=practice.experts[weak],
            threshold=threshold,
            at_threshold=at_threshold,
        )

    def _share_of(self, win_rate: float) -> float:
        if self.threshold is None or win_rate > self.threshold:
            return 1.0
        return self.at_threshold if win_rate == self.threshold else 0.0

    def _pair(
        self, candidates: Candidates, preference: Preference
    ) -> tuple[int | None, int | None]:
        """Columns of the strong and the weak expert, None where one can't be asked."""
        able = np.flatnonzero(good_enough(candidates, preference)).tolist()
        columns = {candidates.experts[i]: i for i in able}
        if self.strong and self.weak:
            return columns.get(self.strong), columns.get(self.weak)
        cost = known_costs(candidates).tolist()
        by_cost = sorted(able, key=lambda i: (cost[i], candidates.experts[i]))
        strong = columns.get(self.strong) if self.strong else by_cost[-1]
        weak = columns.get(self.weak) if self.weak else by_cost[0]
        return strong, weak

    def _chosen_pair(self, practice: Practice) -> tuple[int, int]:
        if len(practice.experts) < 2:
            raise TableError("a threshold needs two experts to choose from")
        value_A = practice.value.mean(axis=0)
        spend_A = practice.spend.mean(axis=0)
        weak = practice.column(self.weak) if self.weak else None
        if self.strong:
            strong = practice.column(self.strong)
        else:
            others = [i for i in range(len(value_A)) if i != weak]
            strong = max(others, key=lambda i: (value_A[i], -spend_A[i]))
        if weak is None:
            others = [i for i in range(len(value_A)) if i != strong]
            weak = min(others, key=lambda i: (spend_A[i], -value_A[i]))
        if weak == strong:
            raise TableError("the strong and the weak expert of a threshold must be two")
        return strong, weak


def _win_rate(strong: Floats, weak: Floats) -> Floats:
    return (1 + strong - weak) / 2
