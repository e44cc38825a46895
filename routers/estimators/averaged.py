"""The mean of several estimators."""

from __future__ import annotations

from typing import Self

import numpy as np

from routers.base import Estimator
from routers.explaining.reasons import merged, reasons_of
from routers.records import Estimates, FeatureBatch, Floats, OutcomeTable, Reasons, State
from routers.registry import estimator_class, make_estimator
from routers.storage.states import join_states, part_state

_LABELLED_SHARE = 0.5


class AveragedEstimator:
    """Averages what its members expect; their errors partly cancel.

    Args:
        members: Names of estimators, used when at least half of the rows carry a task label and
            there are two labels or more.
        without_tasks: Those used otherwise.
    """

    name = "average"

    def __init__(
        self,
        members: tuple[str, ...] = ("category", "knn"),
        without_tasks: tuple[str, ...] = ("cluster", "knn"),
    ) -> None:
        self.members = members
        self.without_tasks = without_tasks
        self._fitted: tuple[Estimator, ...] = ()

    def fit(self, features: FeatureBatch, table: OutcomeTable, rng: np.random.Generator) -> Self:
        names = self.members if _has_tasks(table) else self.without_tasks
        result = type(self)(self.members, self.without_tasks)
        result._fitted = tuple(make_estimator(name).fit(features, table, rng) for name in names)
        return result

    def predict(self, features: FeatureBatch) -> Estimates:
        parts = [member.predict(features) for member in self._fitted]
        return Estimates(
            parts[0].experts,
            _mean([part.quality_NA for part in parts]),
            _mean([part.stderr_NA for part in parts]),
            _mean([part.output_tokens_NA for part in parts]),
            _mean([part.latency_s_NA for part in parts]),
        )

    def reasons(self, features: FeatureBatch, chosen: str, other: str) -> Reasons:
        parts = [reasons_of(each, features, chosen, other) for each in self._fitted]
        return merged(parts, [1 / len(parts)] * len(parts))

    def state(self) -> State:
        params = {
            "members": list(self.members),
            "without_tasks": list(self.without_tasks),
            "fitted": [member.name for member in self._fitted],
        }
        return join_states((params, {}), {member.name: member.state() for member in self._fitted})

    @classmethod
    def from_state(cls, state: State) -> Self:
        params = state[0]
        result = cls(tuple(params["members"]), tuple(params["without_tasks"]))
        result._fitted = tuple(
            estimator_class(name).from_state(part_state(state, name)) for name in params["fitted"]
        )
        return result


def _has_tasks(table: OutcomeTable) -> bool:
    labels = [task for task in table.tasks if task is not None]
    return len(set(labels)) > 1 and len(labels) >= _LABELLED_SHARE * len(table)


def _mean(parts: list[Floats]) -> Floats:
    # np.mean takes six times as long for one request.
    mean_NA: Floats = sum(parts[1:], start=parts[0]) / len(parts)
    return mean_NA
