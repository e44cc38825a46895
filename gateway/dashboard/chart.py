"""Where the points of a cost–quality chart stand on the page. Pure geometry, no drawing library."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WIDTH, HEIGHT = 640.0, 340.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 52.0, 20.0, 16.0, 44.0


@dataclass(frozen=True, slots=True)
class Mark:
    """One point: where it stands, what it is called, what it says when pointed at."""

    x: float
    y: float
    name: str
    title: str


@dataclass(frozen=True, slots=True)
class Line:
    """One router's sweep, from cheap to dear."""

    name: str
    marks: tuple[Mark, ...]

    @property
    def path(self) -> str:
        """The points as SVG wants them."""
        return " ".join(f"{mark.x:.1f},{mark.y:.1f}" for mark in self.marks)


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart ready to be written as SVG."""

    lines: tuple[Line, ...]
    marks: tuple[Mark, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    width: float = WIDTH
    height: float = HEIGHT


Point = tuple[float, float]


def frontier_chart(comparison: Mapping[str, Any] | None) -> Chart | None:
    """The chart of a `metrics.json`; None without one, or where no cost is known."""
    if comparison is None:
        return None
    sweeps = {name: _points(router["points"]) for name, router in comparison["routers"].items()}
    singles = _singles(comparison)
    everything = [p for points in (*sweeps.values(), list(singles.values())) for p in points]
    if not singles:
        return None
    place = _Scale(everything, [cost for cost, _ in singles.values()])
    lines = tuple(_line(name, points, place) for name, points in sweeps.items() if points)
    marks = tuple(place.mark(point, name) for name, point in singles.items())
    return Chart(lines, marks, place.x_ticks(), place.y_ticks())


def _points(points: Sequence[Mapping[str, Any]]) -> list[Point]:
    known = [(p["cost_usd"], p["quality"]) for p in points if p["cost_usd"] is not None]
    return sorted(set(known))


def _singles(comparison: Mapping[str, Any]) -> dict[str, Point]:
    beside = {
        name: point
        for name, point in comparison["baselines"].items()
        if name in ("random", "oracle")
    }
    return {
        name: (point["cost_usd"], point["quality"])
        for name, point in {**comparison["singles"], **beside}.items()
        if point["cost_usd"] is not None and point["quality"] is not None
    }


def _line(name: str, points: Sequence[Point], place: _Scale) -> Line:
    return Line(name, tuple(place.mark(point, name) for point in points))


class _Scale:
    """Dollars per thousand queries to x, quality to y."""

    def __init__(self, points: Sequence[Point], single_costs: Sequence[float]) -> None:
        costs = [cost * 1000 for cost, _ in points]
        qualities = [quality for _, quality in points]
        # Where an expert is free there is no log axis to put it on.
        self._log = min(single_costs) > 0 and max(single_costs) > 30 * min(single_costs)
        self._floor = min(single_costs) * 1000
        self._low_x, self._high_x = self._axis(min(costs)), self._axis(max(costs))
        margin = 0.05 * (max(qualities) - min(qualities)) or 0.05
        self._low_y = max(0.0, min(qualities) - margin)
        self._high_y = min(1.0, max(qualities) + margin)

    def mark(self, point: Point, name: str) -> Mark:
        cost, quality = point[0] * 1000, point[1]
        title = f"{name}: {quality:.1%} at ${cost:.4g} per 1,000 queries"
        return Mark(self._x(cost), self._y(quality), name, title)

    def x_ticks(self) -> tuple[tuple[float, str], ...]:
        steps = [self._low_x + i * (self._high_x - self._low_x) / 4 for i in range(5)]
        costs = [10**step if self._log else step for step in steps]
        return tuple((self._x(cost), f"${cost:.2g}") for cost in costs)

    def y_ticks(self) -> tuple[tuple[float, str], ...]:
        steps = [self._low_y + i * (self._high_y - self._low_y) / 4 for i in range(5)]
        return tuple((self._y(quality), f"{quality:.0%}") for quality in steps)

    def _axis(self, cost: float) -> float:
        return math.log10(max(cost, self._floor)) if self._log else cost

    def _x(self, cost: float) -> float:
        span = (self._high_x - self._low_x) or 1.0
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * (self._axis(cost) - self._low_x) / span

    def _y(self, quality: float) -> float:
        span = (self._high_y - self._low_y) or 1.0
        return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * (quality - self._low_y) / span
