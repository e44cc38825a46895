"""Draws qualities in rows, for pools whose costs are unknown."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes

from eval.comparison import Comparison
from eval.report.labels import shortened
from eval.report.pictures import INK, MEASURED, MUTED, color_of, plain, reach, style

_MOST_ROWS = 28
_Row = tuple[str, float, tuple[float, float] | None, str]


def draw_rows(ax: Axes, comparison: Comparison, baselines: Mapping[str, str]) -> None:
    """One row per way of choosing: its quality and 95 % interval, the best on top.

    Args:
        ax: Where to.
        comparison: What to show; of many experts the best are shown.
        baselines: Names of the baselines to show and what to call them.
    """
    rows = [row for row in _rows(comparison, baselines) if not math.isnan(row[1])]
    rows = sorted(rows, key=lambda row: row[1])[-_MOST_ROWS:]
    style(ax, "Quality, mean score in %, with 95% interval", "")
    ax.grid(visible=False, axis="y")
    for at, (_, quality, interval, color) in enumerate(rows):
        reached = reach(quality, interval, 100)
        bars = None if reached is None else np.array(reached)[:, None]
        ax.errorbar(100 * quality, at, xerr=bars, fmt="o", ms=5.5, color=color, lw=1.8)
    ax.set_yticks(range(len(rows)), [plain(shortened(name)) for name, *_ in rows])
    for tick, row in zip(ax.get_yticklabels(), rows, strict=True):
        tick.set_color(row[3])
        tick.set_fontsize(8.5)


def _rows(comparison: Comparison, baselines: Mapping[str, str]) -> list[_Row]:
    found: list[_Row] = []
    points = [(name, single.point, MUTED) for name, single in comparison.singles.items()]
    points += [
        (text, comparison.baselines[name].point, INK)
        for name, text in baselines.items()
        if name in comparison.baselines
    ]
    for router in comparison.routers:
        points.append(
            (f"router {router.name}", router.operating_point, color_of(comparison, router.name))
        )
    for name, point, color in points:
        interval = point.ci95.get("quality")
        pair = None if interval is None else (interval.low, interval.high)
        found.append((name, point.quality, pair, color))
    return found + [
        (m.name, m.quality, m.ci95.get("quality"), MEASURED) for m in comparison.measured
    ]
