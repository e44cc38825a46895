"""What could be had at best: under a budget, by task label, and where routers miss it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from eval.metrics.curves import upper_hull
from eval.replay.replay import always
from routers.records import Floats, OutcomeTable

RIGHT = 0.5
"""The score from which on an answer counts as right."""

RECALL_BANDS: tuple[tuple[str, float, float], ...] = (
    ("none", 0.0, 0.0),
    ("up to a quarter", 0.0, 0.25),
    ("a quarter to half", 0.25, 0.5),
    ("half to three quarters", 0.5, 0.75),
    ("three quarters to nearly all", 0.75, 1.0),
    ("all", 1.0, 1.0),
)
"""Names of bands, and which share of the experts is right in them: above the first number (or equal
to both), below the second or, but for nearly all, equal to it."""


@dataclass(frozen=True, slots=True, eq=False)
class BudgetFrontier:
    r"""The best total score that a total budget can buy, fractions of queries allowed.

    .. math:: \max \sum_{na} y_{na} p_{na} \;\text{s.t.}\; \sum_{na} c_{na} p_{na} \le B,
        \; \sum_a p_{na} = 1, \; p \ge 0

    This linear program is solved exactly: each query's experts make a concave curve, and money is
    spent on the steepest steps of all curves first. Weights of queries change no step's slope.

    Attributes:
        query_I: Which query each step belongs to, steepest first.
        cost_I: Dollars of each step.
        gain_I: Score gained by it.
        start_N2: Cost and score of each query's cheapest answer; 0 for a query that has none.
        counted_N: Whether a query has an answer whose score and cost are known.
    """

    query_I: npt.NDArray[np.intp]
    cost_I: Floats
    gain_I: Floats
    start_N2: Floats
    counted_N: npt.NDArray[np.bool_]

    def quality_at(self, budgets_usd: Floats, weights_N: Floats | None = None) -> Floats:
        """Mean score for each budget in dollars per query; NaN below the cheapest.

        Args:
            budgets_usd: Any number of budgets.
            weights_N: How often each query counts; once each if None.
        """
        weights_N = np.ones(len(self.start_N2)) if weights_N is None else weights_N
        total = float(weights_N[self.counted_N].sum())
        if not total:
            return np.full(np.shape(budgets_usd), np.nan)
        start_2 = weights_N @ self.start_N2
        often_I = weights_N[self.query_I]
        cost = np.append(0.0, np.cumsum(often_I * self.cost_I)) + start_2[0]
        gain = np.append(0.0, np.cumsum(often_I * self.gain_I)) + start_2[1]
        # What is exactly the cheapest must not fall below it by rounding.
        slack = 1 + 1e-12
        found: Floats = np.interp(
            np.asarray(budgets_usd) * slack, cost / total, gain / total, left=np.nan
        )
        return found


def budget_frontier(table: OutcomeTable) -> BudgetFrontier:
    """Solve the budgeted oracle of `table` for every budget at once."""
    usable_NA = ~np.isnan(table.score_NA + table.cost_usd_NA)
    counted_N = np.asarray(usable_NA.any(axis=1), dtype=np.bool_)
    start_N2 = np.zeros((len(table), 2))
    queries: list[int] = []
    costs: list[float] = []
    gains: list[float] = []
    for query in np.flatnonzero(counted_N):
        usable_A = usable_NA[query]
        hull = upper_hull(table.cost_usd_NA[query, usable_A], table.score_NA[query, usable_A])
        start_N2[query] = hull.cost_V[0], hull.quality_V[0]
        costs += np.diff(hull.cost_V).tolist()
        gains += np.diff(hull.quality_V).tolist()
        queries += [int(query)] * (len(hull.cost_V) - 1)
    slope_I = np.array(gains) / np.array(costs)
    order = np.argsort(-slope_I, kind="stable")
    return BudgetFrontier(
        np.array(queries, dtype=np.intp)[order],
        np.array(costs)[order],
        np.array(gains)[order],
        start_N2,
        counted_N,
    )


def hindsight_choice(table: OutcomeTable, fallback: int) -> Floats | None:
    """The expert that did best on each task label of `table` itself, shape (N, A).

    It knows the test's scores, so that nobody who only tells tasks apart can beat it.

    Args:
        table: The test side.
        fallback: Column for queries without a label.

    Returns:
        None where no query has a label.
    """
    labels = np.array([task or "" for task in table.tasks])
    if not any(table.tasks):
        return None
    columns_N = np.full(len(table), fallback)
    for task in set(labels.tolist()) - {""}:
        rows = labels == task
        seen_A = (~np.isnan(table.score_NA[rows])).sum(axis=0)
        mean_A = np.nansum(table.score_NA[rows], axis=0) / np.maximum(seen_A, 1)
        # Whoever answered a handful of them only would win by chance.
        mean_A = np.where(2 * seen_A >= seen_A.max(), mean_A, -np.inf)
        columns_N[rows] = int(mean_A.argmax())
    return always(table, columns_N)


@dataclass(frozen=True, slots=True)
class RecallRow:
    """Queries on which about as many experts are right, and how often a way of choosing is.

    Attributes:
        band: Name of the band, see `RECALL_BANDS`.
        count: Queries in it.
        quality: Mean score of the chosen expert on them; NaN where none was observed.
        random: Mean score of a random expert.
    """

    band: str
    count: int
    quality: float
    random: float


def recall_table(table: OutcomeTable, columns_N: npt.NDArray[np.integer]) -> tuple[RecallRow, ...]:
    """How often a chooser is right, by how many of the observed experts are."""
    seen_NA = ~np.isnan(table.score_NA)
    counts_N = np.maximum(seen_NA.sum(axis=1), 1)
    share_N = ((table.score_NA >= RIGHT) & seen_NA).sum(axis=1) / counts_N
    chosen_N = table.score_NA[np.arange(len(table)), columns_N]
    random_N = np.nansum(table.score_NA, axis=1) / counts_N
    rows = []
    for band, low, high in RECALL_BANDS:
        inside_N = (share_N > low) & ((share_N <= high) if high < 1 else (share_N < 1))
        inside_N = (share_N == low) if low == high else inside_N
        inside_N &= seen_NA.any(axis=1)
        known_N = inside_N & ~np.isnan(chosen_N)
        rows.append(
            RecallRow(
                band, int(inside_N.sum()), _mean(chosen_N[known_N]), _mean(random_N[inside_N])
            )
        )
    return tuple(rows)


def _mean(values: Iterable[float]) -> float:
    values = np.asarray(values)
    return float(values.mean()) if values.size else float("nan")
