"""What a fleet is worth on queries that it was not chosen by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from eval.fleet.design import Budgets, Fleet, Quarry
from eval.metrics.intervals import ClusterBootstrap, Interval, percentile_interval
from eval.tables.pool import with_experts
from routers.estimators.category import CategoryEstimator
from routers.fitting.fit import fit_router
from routers.records import Floats, OutcomeTable
from routers.router import Router

Columns = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Worth:
    """One way of answering the held-out queries.

    Attributes:
        name: What it is.
        quality: Mean score.
        interval: 95 % of it.
        load: Mean load of a request.
        size: What its experts take together.
        gain: Quality above the best single expert of all.
        gain_interval: 95 % of that, on the same draws.
    """

    name: str
    quality: float
    interval: Interval | None
    load: float
    size: float
    gain: float
    gain_interval: Interval | None


class FleetJudge:
    """Judges fleets and single experts on the same held-out queries.

    Singles are chosen by what they reached in training. Which task a query is, is either told or
    found by a classifier that was trained on the training side.

    Args:
        found: The training side.
        test: Held-out outcomes of the same experts; only queries that all of them answered count.
        seed: Source of the classifier's and the bootstrap's randomness.

    Raises:
        TableError: The training side has fewer than two tasks.
    """

    def __init__(self, found: Quarry, test: OutcomeTable, seed: int = 0) -> None:
        self._found = found
        test = with_experts(test, found.experts)
        self._test = test.take(np.flatnonzero(~np.isnan(test.score_NA).any(axis=1)))
        self._bootstrap = ClusterBootstrap(self._test.groups, seed=seed)
        self._label_N = self._classified(seed)
        share_C, quality_CA = found.question.share_C, found.question.quality_CA
        self._mean_A: Floats = share_C @ quality_CA
        self._best = self._always(int(self._mean_A.argmax()))

    def __len__(self) -> int:
        return len(self._test)

    def best_single(self) -> Worth:
        """The best expert in training, whatever it takes."""
        column = int(self._mean_A.argmax())
        return self._worth(f"best single: {self._found.experts[column]}", self._best, (column,))

    def best_single_within(self, budgets: Budgets) -> Worth | None:
        """The best expert in training that alone fits the budgets; None if none does."""
        question = self._found.question
        fits_A = np.ones(len(question.size_A), dtype=bool)
        if budgets.size is not None:
            fits_A &= question.size_A <= budgets.size
        if budgets.load is not None:
            fits_A &= question.cost_CA[0] <= budgets.load
        if not fits_A.any():
            return None
        column = int(np.where(fits_A, self._mean_A, -np.inf).argmax())
        name = f"best single that fits: {self._found.experts[column]}"
        return self._worth(name, self._always(column), (column,))

    def routed(self, fleet: Fleet) -> Worth:
        """The fleet, by the task that the classifier finds."""
        return self._worth("fleet", fleet.map.expert_C[self._label_N], fleet.map.deployed)

    def told(self, fleet: Fleet) -> Worth:
        """The fleet, by the task as labelled; a task never seen goes by the classifier."""
        tasks = {task: place for place, task in enumerate(self._found.tasks)}
        found_N = zip(self._test.tasks, self._label_N, strict=True)
        label_N = np.array([tasks.get(task or "", label) for task, label in found_N])
        return self._worth("fleet, told the task", fleet.map.expert_C[label_N], fleet.map.deployed)

    def _classified(self, seed: int) -> Columns:
        router = fit_router("fleet", "category", self._found.table, seed=seed, calibrate=False)
        found = _category_of(router)
        shares_NC = found.category_shares(router.featurizer.transform(self._test.prompts))
        place_C = np.array([self._found.tasks.index(task) for task in found.categories])
        label_N: Columns = place_C[shares_NC.argmax(axis=1)]
        return label_N

    def _always(self, column: int) -> Columns:
        return np.full(len(self._test), column, dtype=np.intp)

    def _worth(self, name: str, columns_N: Columns, hosted: tuple[int, ...]) -> Worth:
        rows = np.arange(len(self._test))
        score_N = self._test.score_NA[rows, columns_N]
        best_N = self._test.score_NA[rows, self._best]
        ones = np.ones((2, len(rows)))
        means_B2 = self._bootstrap.means(np.stack([score_N, best_N]), ones)
        question = self._found.question
        return Worth(
            name,
            float(score_N.mean()),
            percentile_interval(means_B2[:, 0]),
            float(question.cost_CA[0][columns_N].mean()),
            float(question.size_A[list(hosted)].sum()),
            float((score_N - best_N).mean()),
            percentile_interval(means_B2[:, 0] - means_B2[:, 1]),
        )


def _category_of(router: Router) -> CategoryEstimator:
    if not isinstance(router.estimator, CategoryEstimator):
        raise TypeError(f"{router.estimator!r} finds no task")
    return router.estimator
