"""Further figures of routers at one setting each, with intervals from the shared draws."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from eval.metrics.arena import arena_score
from eval.metrics.figures import Figures, Layout, Levels
from eval.metrics.intervals import ClusterBootstrap, Interval, percentile_interval, ratio
from eval.replay.oracles import RIGHT, BudgetFrontier, budget_frontier
from routers.records import Floats, OutcomeTable

_SHARES = ("top1_optimal", "optimal_selection", "optimal_cost")


@dataclass(frozen=True, slots=True, eq=False)
class Stand:
    """Where a router stands in the list of all ways of choosing.

    Attributes:
        at: Position of the setting that training chose.
        free: Position of the setting to which cost is nothing.
        columns_N: Whom it chooses at the former, per query.
    """

    at: int
    free: int
    columns_N: npt.NDArray[np.integer]


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """Figures by router, and their intervals.

    Attributes:
        figures: Router to figures; NaN unknown.
        ci95: Router to figure to its 95 % interval.
    """

    figures: Mapping[str, Figures]
    ci95: Mapping[str, Mapping[str, Interval]]


def score_all(
    stands: Mapping[str, Stand],
    table: OutcomeTable,
    layout: Layout,
    levels: Levels,
    drawn: Levels,
    bootstrap: ClusterBootstrap,
) -> Scores:
    r"""Figures of section "one setting" of docs/methods.md, for every router.

    `gain_at_random`, `gain_at_best` and `gap_at_oracle` are of the setting to which cost is
    nothing; all others are of the setting that training chose. `gap_*` add up to the distance
    from the oracle:

    .. math:: a_o - a_r = \underbrace{(a_o - a_t)}_{within\ tasks} +
        \underbrace{(a_t - a_l)}_{learning\ tasks} + \underbrace{(a_l - a_r)}_{router}

    with t the best expert per task in hindsight and l the best per task in training.

    Args:
        stands: Router to where it stands.
        table: The test side.
        layout: Where the baselines stand.
        levels: As measured, length K.
        drawn: The same in every replicate, rows are replicates, shape (B, K).
        bootstrap: Over the groups of `table`.
    """
    shares, shares_B = _shares(stands, table, bootstrap)
    budgets = _Budgets(budget_frontier(table), stands, levels, drawn, bootstrap)
    figures, ci95 = {}, {}
    for row, (name, stand) in enumerate(stands.items()):
        whole = {**_of_levels(stand, layout, levels), **shares[name], **budgets.figures(row)}
        parts_B = {**_of_levels(stand, layout, drawn), **shares_B[name], **budgets.replicates(row)}
        figures[name] = {figure: float(value) for figure, value in whole.items()}
        intervals = {figure: percentile_interval(column_B) for figure, column_B in parts_B.items()}
        ci95[name] = {
            figure: interval
            for figure, interval in intervals.items()
            if interval is not None and not np.isnan(figures[name][figure])
        }
    return Scores(figures, ci95)


def _of_levels(stand: Stand, layout: Layout, levels: Levels) -> dict[str, Floats]:
    """Figures that follow from mean qualities and costs; one each, or one per replicate."""
    quality, cost = levels.quality_K[..., stand.at], levels.cost_K[..., stand.at]
    free = levels.quality_K[..., stand.free]
    oracle, random = levels.quality_K[..., layout.oracle], levels.quality_K[..., layout.random]
    best = levels.quality_K[..., layout.best]
    hindsight, learned = (
        np.full_like(quality, np.nan) if at is None else levels.quality_K[..., at]
        for at in (layout.task_hindsight, layout.task_learned)
    )
    return {
        "gain_at_random": _ratio(free - random, random),
        "gain_at_best": _ratio(free - best, best),
        "gap_at_oracle": _ratio(oracle - free, oracle),
        "arena_score": arena_score(quality, cost),
        "optimal_accuracy": _ratio(quality, oracle),
        "cost_of_pass": _ratio(cost, quality),
        "regret": oracle - quality,
        "regret_to_best_single": best - quality,
        "gap_within_tasks": oracle - hindsight,
        "gap_learning_tasks": hindsight - learned,
        "gap_router": learned - quality,
    }


def _ratio(top: Floats, bottom: Floats) -> Floats:
    return ratio(np.asarray(top, dtype=np.float64), np.asarray(bottom, dtype=np.float64))


def _shares(
    stands: Mapping[str, Stand], table: OutcomeTable, bootstrap: ClusterBootstrap
) -> tuple[dict[str, dict[str, Floats]], dict[str, dict[str, Floats]]]:
    """Shares of queries: one number each, and one per replicate."""
    parts = [_counted(stand.columns_N, table) for stand in stands.values()]
    rows = np.concatenate([part.reshape(-1, len(table)) for part in parts])
    sums_BR = bootstrap.sums(rows)
    whole, drawn = {}, {}
    for at, name in enumerate(stands):
        mine = slice(2 * len(_SHARES) * at, 2 * len(_SHARES) * (at + 1))
        own_2S = rows[mine].sum(axis=1).reshape(len(_SHARES), 2)
        own_BS2 = sums_BR[:, mine].reshape(len(sums_BR), len(_SHARES), 2)
        shares_S = ratio(own_2S[:, 0], own_2S[:, 1])
        shares_BS = ratio(own_BS2[..., 0], own_BS2[..., 1])
        whole[name] = dict(zip(_SHARES, shares_S, strict=True))
        drawn[name] = dict(zip(_SHARES, shares_BS.T, strict=True))
    return whole, drawn


def _counted(columns_N: npt.NDArray[np.integer], table: OutcomeTable) -> Floats:
    """Per share what counts and out of what, query by query, shape (S, 2, N)."""
    rows_N = np.arange(len(table))
    score_N, cost_N = table.score_NA[rows_N, columns_N], table.cost_usd_NA[rows_N, columns_N]
    seen_N = ~np.isnan(score_N)
    highest_N = np.where(np.isnan(table.score_NA), -np.inf, table.score_NA).max(axis=1)
    # Where all are wrong, nobody has chosen well.
    top_N = seen_N & (score_N >= highest_N) & (score_N > 0)
    usable_NA = (table.score_NA >= RIGHT) & ~np.isnan(table.cost_usd_NA)
    cheapest_N = np.where(usable_NA, table.cost_usd_NA, np.inf).min(axis=1)
    right_N = seen_N & (score_N >= RIGHT) & ~np.isnan(cost_N)
    frugal_N = right_N & (cost_N <= cheapest_N)
    return np.stack(
        [
            np.stack([top_N, seen_N]),
            np.stack([frugal_N, right_N]),
            np.stack([np.where(right_N, cheapest_N, 0.0), np.where(right_N, cost_N, 0.0)]),
        ]
    ).astype(np.float64)


class _Budgets:
    """What the oracle reaches with the money that each router spends."""

    def __init__(
        self,
        frontier: BudgetFrontier,
        stands: Mapping[str, Stand],
        levels: Levels,
        drawn: Levels,
        bootstrap: ClusterBootstrap,
    ) -> None:
        places = [stand.at for stand in stands.values()]
        self._quality_R = levels.quality_K[places]
        self._quality_BR = drawn.quality_K[:, places]
        self._oracle_R = frontier.quality_at(levels.cost_K[places])
        pairs = zip(drawn.cost_K[:, places], bootstrap.weights(), strict=True)
        self._oracle_BR = np.stack([frontier.quality_at(cost_R, w_N) for cost_R, w_N in pairs])

    def figures(self, row: int) -> dict[str, Floats]:
        oracle = self._oracle_R[row]
        return {
            "oracle_at_its_cost": oracle,
            "gap_to_oracle_at_its_cost": oracle - self._quality_R[row],
        }

    def replicates(self, row: int) -> dict[str, Floats]:
        oracle_B = self._oracle_BR[:, row]
        return {
            "oracle_at_its_cost": oracle_B,
            "gap_to_oracle_at_its_cost": oracle_B - self._quality_BR[:, row],
        }
