"""Cost–quality curves: concave hull, area under it, hypervolume, and gains over a single expert.

All functions take points as two arrays, cost in dollars per query and quality in [0, 1]; a point
with NaN in either is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from routers.records import Floats


@dataclass(frozen=True, slots=True, eq=False)
class Hull:
    """A non-decreasing concave curve, flat to the right of its last vertex.

    Attributes:
        cost_V: Cost of each vertex, strictly rising.
        quality_V: Quality of each vertex, strictly rising.
    """

    cost_V: Floats
    quality_V: Floats

    def quality_at(self, cost: Floats) -> Floats:
        """Quality that this cost buys by mixing vertices; NaN left of the first vertex."""
        return np.interp(cost, self.cost_V, self.quality_V, left=np.nan)


def upper_hull(cost_P: Floats, quality_P: Floats) -> Hull:
    """The non-decreasing upper concave hull of points, by the monotone chain, O(P log P).

    Mixing two vertices at random is itself a router, so every point of the hull can be had.

    Raises:
        ValueError: No point has both a cost and a quality.

    Source: Hu et al., "RouterBench", 2024 (non-decreasing convex hull).
    """
    known = ~(np.isnan(cost_P) | np.isnan(quality_P))
    if not known.any():
        raise ValueError("no point has both a cost and a quality")
    order = np.lexsort((-quality_P[known], cost_P[known]))
    vertices: list[tuple[float, float]] = []
    for point in zip(cost_P[known][order].tolist(), quality_P[known][order].tolist(), strict=True):
        if vertices and point[1] <= vertices[-1][1]:
            continue
        while len(vertices) > 1 and not _turns_right(vertices[-2], vertices[-1], point):
            vertices.pop()
        vertices.append(point)
    return Hull(np.array([v[0] for v in vertices]), np.array([v[1] for v in vertices]))


def _turns_right(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    return (b[0] - a[0]) * (c[1] - a[1]) < (b[1] - a[1]) * (c[0] - a[0])


def aiq(
    cost_P: Floats,
    quality_P: Floats,
    c_min: float,
    c_max: float,
    normalise: Literal["paper", "code"] = "paper",
) -> float:
    r"""Average improvement in quality: the mean height of the hull over a range of costs.

    .. math:: \mathrm{AIQ} = \frac{1}{c_{max} - c_{min}} \int_{c_{min}}^{c_{max}} H(c)\,dc

    The hull is extended flat to `c_max`. Curves compare only over the same range.

    Args:
        cost_P: Costs of a router's points.
        quality_P: Their qualities.
        c_min: Left end, at or right of the cheapest point.
        c_max: Right end.
        normalise: "paper" as above; "code" integrates from the first vertex and divides by
            `c_max`, as RouterBench's published code does.

    Returns:
        In [0, 1]; NaN where the range has no width.

    Source: Hu et al., "RouterBench", 2024.
    """
    return mean_height(upper_hull(cost_P, quality_P), c_min, c_max, normalise)


def mean_height(
    hull: Hull, c_min: float, c_max: float, normalise: Literal["paper", "code"] = "paper"
) -> float:
    """The same of a hull that is at hand."""
    if normalise == "code":
        area = _area(hull, float(hull.cost_V[0]), c_max)
        return area / c_max if c_max > 0 else float("nan")
    return _area(hull, c_min, c_max) / (c_max - c_min) if c_max > c_min else float("nan")


def _area(hull: Hull, left: float, right: float) -> float:
    inner = hull.cost_V[(hull.cost_V > left) & (hull.cost_V < right)]
    grid = np.concatenate([[left], inner, [right]])
    return float(np.trapezoid(hull.quality_at(grid), grid))


def hypervolume(cost_P: Floats, quality_P: Floats, c_ref: float, q_ref: float) -> float:
    """Share of the box [0, c_ref] × [q_ref, 1] that some point dominates, in [0, 1].

    Args:
        cost_P: Costs of the points.
        quality_P: Their qualities.
        c_ref: The highest cost that counts.
        q_ref: The quality that random routing reaches.

    Returns:
        NaN where the box is empty.
    """
    if not (c_ref > 0 and q_ref < 1):
        return float("nan")
    inside = (cost_P <= c_ref) & (quality_P >= q_ref)
    order = np.argsort(cost_P[inside], kind="stable")
    cost, quality = cost_P[inside][order], np.maximum.accumulate(quality_P[inside][order])
    widths = np.diff(np.concatenate([cost, [c_ref]]))
    return float(np.sum(widths * (quality - q_ref)) / (c_ref * (1 - q_ref)))


def cheapest_as_good(cost_P: Floats, quality_P: Floats, quality: float) -> int | None:
    """Which point is the cheapest of at least that quality; None when there is none."""
    good = np.flatnonzero((quality_P >= quality) & ~np.isnan(cost_P))
    return int(good[np.argmin(cost_P[good])]) if good.size else None


def relative(difference: float, base: float) -> float:
    """`difference / base`; NaN where the base is 0."""
    return difference / base if base else float("nan")
