"""What a router must beat: single experts, chance, task labels, prompt length; and the oracle.

Whatever a baseline chooses (the best expert, the expert of a task, a threshold of length) it
chooses on the training side. Only the oracle looks at the test's own scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from eval.metrics.intervals import ratio
from eval.metrics.pgr import weak_and_strong
from eval.replay.replay import always
from routers.features import estimate_tokens
from routers.records import Floats, OutcomeTable

STRONG_SHARES: tuple[float, ...] = tuple(np.linspace(0, 1, 21).tolist())
_ENOUGH_OF_THE_MOST = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Singles:
    """Every expert alone, as the training side knows it.

    Attributes:
        quality_A: Mean score; NaN for an expert seen on fewer than half as many queries as the
            most seen one, whose mean would be one over other questions.
        cost_A: Mean dollars per query; NaN unknown.
        best: Column of the best, the cheaper of equals.
        cheapest: Column of the cheapest; None when costs are unknown.
        pair: Columns of the weak and the strong expert, see `weak_and_strong`.
    """

    quality_A: Floats
    cost_A: Floats
    best: int
    cheapest: int | None
    pair: tuple[int, int] | None


def singles(train: OutcomeTable) -> Singles:
    """Judge every expert alone on the training side.

    Raises:
        ValueError: No score is observed.
    """
    seen_NA = ~np.isnan(train.score_NA)
    if not seen_NA.any():
        raise ValueError("no score is observed")
    enough_A = seen_NA.sum(axis=0) >= _ENOUGH_OF_THE_MOST * seen_NA.sum(axis=0).max()
    quality_A = np.where(enough_A, _means(train.score_NA, train), np.nan)
    cost_A = _means(train.cost_usd_NA, train)
    order = np.lexsort((np.where(np.isnan(cost_A), np.inf, cost_A), -_or(quality_A, -np.inf)))
    known_A = _or(np.where(enough_A, cost_A, np.nan), np.inf)
    cheapest = int(np.argmin(known_A)) if np.isfinite(known_A).any() else None
    best = int(order[0])
    return Singles(quality_A, cost_A, best, cheapest, weak_and_strong(quality_A, cost_A, best))


def single(table: OutcomeTable, column: int) -> Floats:
    """Always the same expert, shape (N, A)."""
    return always(table, np.full(len(table), column))


def random_choice(table: OutcomeTable) -> Floats:
    """Every expert equally often, shape (N, A)."""
    return np.full(table.score_NA.shape, 1 / len(table.experts))


@dataclass(frozen=True, slots=True, eq=False)
class TaskMeans:
    """Every expert's means on every task of the training side.

    Attributes:
        quality: Task to mean scores, shape (A,); NaN where an expert was not seen on it.
        cost: Task to mean costs over the dearest expert's mean cost, shape (A,); NaN unknown.
    """

    quality: Mapping[str, Floats]
    cost: Mapping[str, Floats]


def task_means(train: OutcomeTable) -> TaskMeans:
    """Judge every expert on every task label."""
    scale = _dearest(train)
    rows: dict[str, list[int]] = {}
    for row, task in enumerate(train.tasks):
        if task is not None:
            rows.setdefault(task, []).append(row)
    quality = {task: _means(train.score_NA, train, picked) for task, picked in rows.items()}
    cost = {task: _means(train.cost_usd_NA, train, picked) / scale for task, picked in rows.items()}
    return TaskMeans(quality, cost)


def task_choice(
    means: TaskMeans, test: OutcomeTable, fallback: int, cost_weight: float = 0.0
) -> Floats:
    """The expert that did best on the query's task label in training, shape (N, A).

    Args:
        means: From the training side.
        test: Whose queries are routed.
        fallback: Column for a query without a label, or with one that training never saw.
        cost_weight: As in `Preference`: quality points for the mean cost of the dearest expert.
    """
    chosen = {}
    for task, quality_A in means.quality.items():
        utility_A = quality_A - cost_weight * means.cost[task] if cost_weight else quality_A
        if not np.isnan(utility_A).all():
            chosen[task] = int(np.nanargmax(utility_A))
    return always(test, [chosen.get(task, fallback) if task else fallback for task in test.tasks])


def lengths(table: OutcomeTable) -> Floats:
    """Estimated prompt tokens of each query, shape (N,)."""
    return np.array([estimate_tokens(prompt) for prompt in table.prompts])


def length_choice(
    train: OutcomeTable, test: OutcomeTable, pair: tuple[int, int], strong_share: float
) -> Floats:
    """The longest prompts to the strong expert, the others to the weak one, shape (N, A).

    Args:
        train: Whose prompts set the threshold.
        test: Whose queries are routed.
        pair: Columns of the weak and the strong expert.
        strong_share: Which part of the training prompts would go to the strong one.
    """
    if strong_share <= 0 or strong_share >= 1:
        return single(test, pair[int(strong_share >= 1)])
    threshold = np.quantile(lengths(train), 1 - strong_share)
    return always(test, np.where(lengths(test) >= threshold, pair[1], pair[0]))


def oracle_choice(table: OutcomeTable, cost_weight: float = 0.0) -> Floats:
    """The expert that did best on this very query, the cheapest of equals, shape (N, A).

    With a cost weight it maximises score less weight times cost over the dearest expert's mean
    cost: the Lagrangian of the best that a budget can buy.
    """
    seen_NA = ~np.isnan(table.score_NA)
    known = table.cost_usd_NA[~np.isnan(table.cost_usd_NA)]
    cost_NA = _or(table.cost_usd_NA, 2 * float(known.max()) if known.size else 0.0)
    utility_NA = np.where(seen_NA, table.score_NA, -np.inf)
    if cost_weight:
        utility_NA = utility_NA - cost_weight * cost_NA / _dearest(table)
    best_NA = seen_NA & (utility_NA >= utility_NA.max(axis=1, keepdims=True))
    return always(table, np.argmin(np.where(best_NA, cost_NA, np.inf), axis=1))


def _means(values_NA: Floats, table: OutcomeTable, rows: Sequence[int] | None = None) -> Floats:
    """Mean of each expert over its graded queries, weighted by 1 / propensity; NaN unknown."""
    picked = np.arange(len(table)) if rows is None else np.array(rows, dtype=np.intp)
    counts: npt.NDArray[np.bool_] = ~np.isnan(values_NA[picked] + table.score_NA[picked])
    weight_NA = np.where(counts, 1 / table.propensity_NA[picked], 0.0)
    sum_A = (np.where(counts, values_NA[picked], 0.0) * weight_NA).sum(axis=0)
    return ratio(sum_A, weight_NA.sum(axis=0))


def _dearest(table: OutcomeTable) -> float:
    """Mean cost of the dearest expert; 1 where all are free or unknown."""
    cost_A = _means(table.cost_usd_NA, table)
    return float(np.nanmax(cost_A)) or 1.0 if not np.isnan(cost_A).all() else 1.0


def _or(values: Floats, otherwise: float) -> Floats:
    return np.where(np.isnan(values), otherwise, values)
