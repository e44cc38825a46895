"""The headline figures of a cost–quality curve, and their intervals over bootstrap replicates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from eval.metrics.curves import (
    aiq,
    cheapest_as_good,
    hypervolume,
    mean_height,
    relative,
    upper_hull,
)
from eval.metrics.intervals import ClusterBootstrap, Interval, percentile_interval
from eval.replay.replay import ReplayedTraffic
from routers.records import Floats

Figures = Mapping[str, float]


@dataclass(frozen=True, slots=True, eq=False)
class Levels:
    """Mean quality and cost of a list of ways to choose.

    Attributes:
        quality_K: In [0, 1], NaN unknown.
        cost_K: Dollars per query, NaN unknown.
    """

    quality_K: Floats
    cost_K: Floats

    @classmethod
    def of(cls, traffic: Sequence[ReplayedTraffic]) -> Self:
        """As measured."""
        return cls(np.array([t.quality for t in traffic]), np.array([t.cost_usd for t in traffic]))

    def part(self, which: slice) -> Levels:
        """Some of them."""
        return Levels(self.quality_K[which], self.cost_K[which])


@dataclass(frozen=True, slots=True)
class Frame:
    """What every curve of one comparison is measured against, on the test side.

    Attributes:
        singles: Every expert alone.
        random_quality: Of uniform choice.
        oracle_quality: Of the best expert of each query.
        best_quality: Of the single expert that was best in training.
        best_cost: Its dollars per query.
        c_min: Cost of the cheapest single expert: where curves begin.
        c_max: Highest cost of any curve or single expert: where they end.
    """

    singles: Levels
    random_quality: float
    oracle_quality: float
    best_quality: float
    best_cost: float
    c_min: float
    c_max: float

    @property
    def has_costs(self) -> bool:
        """Whether the cost axis has any length."""
        return self.c_max > self.c_min

    def zero_router_aiq(self) -> float:
        """AIQ of mixing single experts without looking at the query; NaN without costs."""
        if not self.has_costs:
            return float("nan")
        return aiq(self.singles.cost_K, self.singles.quality_K, self.c_min, self.c_max)

    def cheapest_point(self) -> tuple[float, float]:
        """Cost and quality of the cheapest expert, which every curve may start from."""
        at = int(np.nanargmin(self.singles.cost_K))
        return float(self.singles.cost_K[at]), float(self.singles.quality_K[at])


@dataclass(frozen=True, slots=True)
class Picks:
    """Which points of a curve speak for it, settled once on the whole test side.

    Attributes:
        highest: The point of highest quality, the cheapest of equals.
        as_good: The cheapest point at least as good as the best single expert; None if there is
            none.
    """

    highest: int
    as_good: int | None


def pick(curve: Levels, frame: Frame) -> Picks:
    """Settle the points that `figures` reports on."""
    order = np.lexsort((np.nan_to_num(curve.cost_K), -np.nan_to_num(curve.quality_K, nan=-1.0)))
    as_good = cheapest_as_good(curve.cost_K, curve.quality_K, frame.best_quality)
    return Picks(int(order[0]), as_good)


def figures(curve: Levels, frame: Frame, picks: Picks, zero_aiq: float) -> Figures:
    """All figures of a curve; NaN where one can't be had. `zero_aiq` is the zero router's AIQ.

    `quality_gain_over_best_single`, `cost_save_at_best_single` and `gap_to_oracle` are relative
    to the best single expert's quality, its cost, and the oracle's quality.
    """
    highest = float(curve.quality_K[picks.highest])
    gain = relative(highest - frame.best_quality, frame.best_quality)
    found = {
        "quality_max": highest,
        "quality_gain_over_best_single": gain,
        "gap_to_oracle": relative(frame.oracle_quality - highest, frame.oracle_quality),
        "cost_save_at_best_single": float("nan"),
        "aiq": float("nan"),
        "aiq_code": float("nan"),
        "delta_aiq_vs_zero_router": float("nan"),
        "hypervolume": float("nan"),
    }
    if picks.as_good is not None:
        saved = frame.best_cost - float(curve.cost_K[picks.as_good])
        found["cost_save_at_best_single"] = relative(saved, frame.best_cost)
    return {**found, **_areas(curve, frame, zero_aiq)} if frame.has_costs else found


def _areas(curve: Levels, frame: Frame, zero_aiq: float) -> Figures:
    cost, quality = frame.cheapest_point()
    cost_K, quality_K = np.append(curve.cost_K, cost), np.append(curve.quality_K, quality)
    hull = upper_hull(cost_K, quality_K)
    area = mean_height(hull, frame.c_min, frame.c_max)
    return {
        "aiq": area,
        "aiq_code": mean_height(hull, frame.c_min, frame.c_max, "code"),
        "delta_aiq_vs_zero_router": area - zero_aiq,
        "hypervolume": hypervolume(cost_K, quality_K, frame.c_max, frame.random_quality),
    }


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each way of choosing stands in one long list of them.

    Attributes:
        singles: Every expert alone.
        random: Position of uniform choice.
        oracle: Position of the oracle.
        best: Position of the best single expert.
        curves: Name to the points of a curve.
        task_learned: Position of the best expert per task label in training; None without labels.
        task_hindsight: The same by the test's own scores.
    """

    singles: slice
    random: int
    oracle: int
    best: int
    curves: Mapping[str, slice]
    task_learned: int | None = None
    task_hindsight: int | None = None

    def frame(self, levels: Levels) -> Frame:
        """What the curves are measured against, under these levels."""
        alone = levels.part(self.singles)
        known = levels.cost_K[~np.isnan(levels.cost_K)]
        c_min = float(np.nanmin(alone.cost_K)) if known.size else float("nan")
        return Frame(
            singles=alone,
            random_quality=float(levels.quality_K[self.random]),
            oracle_quality=float(levels.quality_K[self.oracle]),
            best_quality=float(levels.quality_K[self.best]),
            best_cost=float(levels.cost_K[self.best]),
            c_min=c_min,
            c_max=float(known.max()) if known.size else float("nan"),
        )


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredField:
    """Every way of choosing with its levels, figures and intervals.

    Attributes:
        frame: What the curves are measured against.
        levels: As measured, length K.
        quality_ci: 95 % intervals of the qualities, length K.
        cost_ci: The same of the costs.
        picks: Curve to the points that speak for it.
        figures: Curve to its figures.
        figures_ci: Curve to figure to its 95 % interval.
        drawn: The levels in every replicate, rows are replicates, shape (B, K).
        aiq_B: Curve to its AIQ in every replicate.
    """

    frame: Frame
    levels: Levels
    quality_ci: tuple[Interval | None, ...]
    cost_ci: tuple[Interval | None, ...]
    picks: Mapping[str, Picks]
    figures: Mapping[str, Figures]
    figures_ci: Mapping[str, Mapping[str, Interval]]
    drawn: Levels
    aiq_B: Mapping[str, Floats]


def measure_all(
    traffic: Sequence[ReplayedTraffic], layout: Layout, bootstrap: ClusterBootstrap
) -> MeasuredField:
    """Levels and figures of every way of choosing, with intervals from shared draws."""
    levels = Levels.of(traffic)
    frame = layout.frame(levels)
    picks = {name: pick(levels.part(part), frame) for name, part in layout.curves.items()}
    drawn = _replicates(traffic, bootstrap)
    figures_B = _figure_replicates(drawn, layout, picks)
    return MeasuredField(
        frame=frame,
        levels=levels,
        quality_ci=tuple(percentile_interval(column_B) for column_B in drawn.quality_K.T),
        cost_ci=tuple(percentile_interval(column_B) for column_B in drawn.cost_K.T),
        picks=picks,
        figures=_all_figures(levels, layout, picks),
        figures_ci={name: _intervals(found) for name, found in figures_B.items()},
        drawn=drawn,
        aiq_B={name: found["aiq"] for name, found in figures_B.items()},
    )


def _replicates(traffic: Sequence[ReplayedTraffic], bootstrap: ClusterBootstrap) -> Levels:
    """Levels in every replicate: rows are replicates, shape (B, K)."""
    quality = bootstrap.means(
        np.stack([t.quality_N for t in traffic]), np.stack([t.quality_weight_N for t in traffic])
    )
    cost = bootstrap.means(
        np.stack([t.cost_N for t in traffic]), np.stack([t.cost_weight_N for t in traffic])
    )
    return Levels(quality, cost)


def _all_figures(levels: Levels, layout: Layout, picks: Mapping[str, Picks]) -> dict[str, Figures]:
    frame = layout.frame(levels)
    zero_aiq = frame.zero_router_aiq()
    return {
        name: figures(levels.part(part), frame, picks[name], zero_aiq)
        for name, part in layout.curves.items()
    }


def _figure_replicates(
    drawn: Levels, layout: Layout, picks: Mapping[str, Picks]
) -> dict[str, dict[str, Floats]]:
    rows = zip(drawn.quality_K, drawn.cost_K, strict=True)
    replicates = [_all_figures(Levels(quality, cost), layout, picks) for quality, cost in rows]
    return {
        name: {
            figure: np.array([each[name][figure] for each in replicates])
            for figure in replicates[0][name]
        }
        for name in layout.curves
    }


def _intervals(replicates: Mapping[str, Floats]) -> dict[str, Interval]:
    found = {figure: percentile_interval(column_B) for figure, column_B in replicates.items()}
    return {figure: interval for figure, interval in found.items() if interval is not None}
