"""Where routing wins and where it loses: a router against the best single expert, task by task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from eval.comparison import Slice
from eval.metrics.curves import relative
from eval.metrics.differences import Compared, compared, is_logged
from eval.metrics.intervals import ClusterBootstrap, Interval, percentile_interval
from eval.replay.replay import ReplayedTraffic
from routers.records import Floats, OutcomeTable

ENOUGH_GROUPS = 10
_MOST_TASKS = 100


def slices(
    table: OutcomeTable,
    router: ReplayedTraffic,
    alone: ReplayedTraffic,
    bootstrap: ClusterBootstrap,
) -> tuple[Slice, ...]:
    """Compare on each task label, the most frequent first, a hundred of them at most.

    A task with fewer than ten groups of questions is never called won or lost.

    Args:
        table: The test side.
        router: What the router's choices led to.
        alone: What the best single expert's answers led to.
        bootstrap: Over the groups of `table`.
    """
    counts = Counter(task for task in table.tasks if task is not None)
    tasks = [task for task, _ in counts.most_common(_MOST_TASKS)]
    labels = np.array(table.tasks, dtype=object)
    masks = [(labels == task).astype(np.float64) for task in tasks]
    logged = is_logged(table)
    quality = [compared(router, alone, "quality", logged=logged, rows=mask) for mask in masks]
    cost = [compared(router, alone, "cost", logged=logged, rows=mask) for mask in masks]
    intervals = _intervals(quality, bootstrap)
    groups = Counter(task for task, _ in set(zip(table.tasks, table.groups, strict=True)))
    return tuple(
        _slice(task, counts[task], quality[i], cost[i], intervals[i], groups[task])
        for i, task in enumerate(tasks)
    )


def _intervals(parts: Sequence[Compared], bootstrap: ClusterBootstrap) -> list[Interval | None]:
    if not parts:
        return []
    values = np.concatenate([part.values_2N for part in parts])
    weights = np.concatenate([part.weights_2N for part in parts])
    means_B: Floats = bootstrap.means(values, weights)
    return [percentile_interval(column_B) for column_B in (means_B[:, 0::2] - means_B[:, 1::2]).T]


def _slice(
    task: str, count: int, quality: Compared, cost: Compared, interval: Interval | None, groups: int
) -> Slice:
    mean, best = quality.means
    return Slice(
        task=task,
        count=count,
        quality=mean,
        best_single=best,
        delta=quality.difference,
        delta_ci=interval,
        cost_save=relative(-cost.difference, cost.means[1]),
        finding=_finding(quality, interval, groups),
    )


def _finding(quality: Compared, interval: Interval | None, groups: int) -> str:
    counts = (quality.weights_2N > 0).all(axis=0)
    if np.array_equal(quality.values_2N[0, counts], quality.values_2N[1, counts]):
        return "same"
    if interval is None or groups < ENOUGH_GROUPS:
        return "unclear"
    if interval.low > 0:
        return "wins"
    return "loses" if interval.high < 0 else "unclear"
