"""Quality from a table over task categories: which task is this, and who is good at it?"""

from __future__ import annotations

import math
from typing import Self

import numpy as np
import numpy.typing as npt

from routers.errors import TableError
from routers.estimators.denoise import trusted_labels
from routers.estimators.effort import EffortModel
from routers.estimators.newcomer import probes_of
from routers.estimators.observed import observed
from routers.estimators.prototype import PrototypeTable
from routers.estimators.softmax import SoftmaxClassifier
from routers.records import (
    Estimates,
    FeatureBatch,
    Floats,
    OutcomeTable,
    Reasons,
    Region,
    State,
)
from routers.storage.states import fitted, join_states, part_state

_TINY = float(np.finfo(np.float64).tiny)


class CategoryEstimator:
    r"""Composition of Experts, soft: a classifier of tasks, then a table of task × expert.

    .. math:: \hat q_a(x) = \sum_c p(c|x)\,\mu_{ca}

    Where the classifier is at a loss (normalised entropy of p above `most_entropy`, or no task as
    likely as `least_share`), the expert's mean over all tasks stands in, so that such requests go
    to the best generalist. Labels that their neighbours contradict are left out first;
    `dropped_share` says how many.

    Args:
        most_entropy: Threshold of normalised entropy, in (0, 1]; 1 never falls back.
        least_share: Threshold of the likeliest task's probability, in [0, 1); 0 never falls back.
        caution: How many standard errors below its mean a quality is put, >= 0.

    Source: Jain et al., "Composition of Experts: A Modular Compound AI System Leveraging Large
    Language Models", 2024.
    """

    name = "category"

    def __init__(
        self, most_entropy: float = 0.7, least_share: float = 0.0, caution: float = 0.0
    ) -> None:
        self.most_entropy = most_entropy
        self.least_share = least_share
        self.caution = caution
        self.categories: tuple[str, ...] = ()
        self.dropped_share = 0.0
        self._classifier: SoftmaxClassifier | None = None
        self._table: PrototypeTable | None = None
        self._effort: EffortModel | None = None

    def fit(self, features: FeatureBatch, table: OutcomeTable, rng: np.random.Generator) -> Self:
        outcomes = observed(features, table)
        result = self._unfitted()
        result.categories = _categories(table)
        index = {category: place for place, category in enumerate(result.categories)}
        labels_N = np.array([-1 if task is None else index[task] for task in table.tasks])
        labelled = np.flatnonzero(labels_N >= 0)
        groups = np.array(table.groups)
        vectors_ND = features.vectors_ND.astype(np.float64)
        trusted = trusted_labels(
            vectors_ND[labelled], labels_N[labelled], groups[labelled].tolist()
        )
        result.dropped_share = float(1 - trusted.mean())
        rows = labelled[trusted]
        result._classifier = SoftmaxClassifier.fit(
            vectors_ND[rows], labels_N[rows], groups[rows].tolist(), len(index), rng
        )
        member_NC = np.zeros((len(table), len(index)))
        member_NC[rows, labels_N[rows]] = 1.0
        result._table = PrototypeTable.of(member_NC, outcomes)
        result._effort = EffortModel().fit(features, table)
        return result

    def predict(self, features: FeatureBatch) -> Estimates:
        return fitted(self._effort).estimates(features, *self.quality(features))

    def quality(self, features: FeatureBatch) -> tuple[Floats, Floats]:
        """Expected score and its standard error, each (N, A); NaN unknown, not clipped."""
        table = fitted(self._table)
        share_NC = self.category_shares(features)
        quality_NA, stderr_NA = table.mix(share_NC)
        lost_N = self._lost(share_NC)
        if lost_N.any():
            quality_NA[lost_N], stderr_NA[lost_N] = table.pool_A, table.spread()
        if self.caution:
            quality_NA -= self.caution * stderr_NA
        return quality_NA, stderr_NA

    def add_expert(
        self, expert: str, features: FeatureBatch, probes: OutcomeTable, description: str = ""
    ) -> Self:
        seen = probes_of(expert, fitted(self._effort).experts, features, probes)
        effort = fitted(self._effort).with_expert(expert, features, probes)
        member_PC = self.category_shares(features)
        for row, task in enumerate(probes.tasks):
            if task in self.categories:
                member_PC[row] = np.array(self.categories) == task
        place = effort.experts.index(expert)
        return self._with(fitted(self._table).with_expert(place, member_PC, seen), effort)

    def remove_expert(self, expert: str) -> Self:
        effort = fitted(self._effort)
        table = fitted(self._table)
        fewer = effort.without_expert(expert)
        return self._with(table.without_expert(effort.experts.index(expert)), fewer)

    def reasons(self, features: FeatureBatch, chosen: str, other: str) -> Reasons:
        table, experts = fitted(self._table), fitted(self._effort).experts
        columns = {one: experts.index(one) for one in (chosen, other) if one in experts}
        share_1C = self.category_shares(features)
        if self._lost(share_1C)[0]:
            known = {one: at for one, at in columns.items() if not np.isnan(table.pool_A[at])}
            quality = {expert: float(table.pool_A[at]) for expert, at in known.items()}
            return Reasons(regions=(Region("no task in particular", 1.0, quality),))
        return Reasons(regions=table.regions(share_1C[0], self.categories, columns))

    def _lost(self, share_NC: Floats) -> npt.NDArray[np.bool_]:
        """Whether the classifier is at a loss, shape (N,)."""
        lost_N: npt.NDArray[np.bool_] = _normalised_entropy(share_NC) > self.most_entropy
        if self.least_share:
            lost_N |= share_NC.max(axis=1) < self.least_share
        return lost_N

    def category_shares(self, features: FeatureBatch) -> Floats:
        """P(category | request), shape (N, len(categories)), each row summing to 1."""
        return fitted(self._classifier).probabilities(features.vectors_ND.astype(np.float64))

    def state(self) -> State:
        params = {
            "most_entropy": self.most_entropy,
            "least_share": self.least_share,
            "caution": self.caution,
            "categories": list(self.categories),
            "dropped_share": self.dropped_share,
        }
        parts = {
            "classifier": fitted(self._classifier).state(),
            "table": fitted(self._table).state(),
            "effort": fitted(self._effort).state(),
        }
        return join_states((params, {}), parts)

    @classmethod
    def from_state(cls, state: State) -> Self:
        params = state[0]
        result = cls(params["most_entropy"], params["least_share"], params["caution"])
        result.categories = tuple(params["categories"])
        result.dropped_share = params["dropped_share"]
        result._classifier = SoftmaxClassifier.from_state(part_state(state, "classifier"))
        result._table = PrototypeTable.from_state(part_state(state, "table"))
        result._effort = EffortModel.from_state(part_state(state, "effort"))
        return result

    def _unfitted(self) -> Self:
        return type(self)(self.most_entropy, self.least_share, self.caution)

    def _with(self, table: PrototypeTable, effort: EffortModel) -> Self:
        result = self._unfitted()
        result.categories, result.dropped_share = self.categories, self.dropped_share
        result._classifier, result._table, result._effort = self._classifier, table, effort
        return result


def _categories(table: OutcomeTable) -> tuple[str, ...]:
    found = tuple(sorted({task for task in table.tasks if task is not None}))
    if len(found) < 2:
        raise TableError(
            "the category estimator needs task labels of at least two tasks, this table has "
            f"{len(found)}; use the cluster estimator"
        )
    return found


def _normalised_entropy(share_NC: Floats) -> Floats:
    log_NC = np.log(np.maximum(share_NC, _TINY))
    log_NC *= share_NC
    entropy_N: Floats = np.add.reduce(log_NC, axis=1) / -math.log(share_NC.shape[1])
    return entropy_N
