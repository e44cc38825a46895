"""Draws the cost–quality frontier: routers as curves, experts and baselines as points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from eval.comparison import Comparison, MeasuredPoint, RouterResult
from eval.metrics.curves import upper_hull
from eval.report.labels import Label, place_labels, shortened
from eval.report.pictures import (
    DPI,
    INK,
    MEASURED,
    MUTED,
    PAPER,
    Dot,
    color_of,
    curve_id,
    draw_bars,
    plain,
    prominent,
    reach,
    style,
    to_png,
    to_svg,
    unknown_letters_allowed,
)
from eval.report.quality_rows import draw_rows
from eval.report.wordings import PER, points, signed, tick_usd
from routers.records import Floats

BASELINE_MARKS = {
    "random": ("X", "random expert"),
    "task_oracle": ("^", "best expert per task label"),
    "oracle": ("D", "oracle: the best answer each time"),
}
_LOG_SPAN = 30.0
_MOST_LABELS = 36
_Spots = list[tuple[float, float]]


def frontier_png(comparison: Comparison, path: Path) -> None:
    """Write the picture as PNG, 1800 pixels wide."""
    to_png(draw_frontier(comparison, titled=True), path)


def frontier_svg(comparison: Comparison) -> str:
    """The picture as an inline SVG element; see `pictures.to_svg`."""
    return to_svg(draw_frontier(comparison), "frontier", "Quality over cost")


def draw_frontier(comparison: Comparison, *, titled: bool = False) -> Figure:
    """Quality over cost; quality alone, in rows, where costs are unknown.

    The cost axis is logarithmic when the dearest point costs over 30 times the cheapest.
    """
    figure = Figure(figsize=(10, 6.2), dpi=DPI, layout="constrained")
    ax = figure.add_subplot()
    if titled:
        what = "Cost and quality" if comparison.costs_known else "Quality"
        title = f"{what} on {comparison.data['n_test']:,} held-out queries"
        figure.suptitle(title, x=0.01, ha="left", color=INK)
    if comparison.costs_known:
        with unknown_letters_allowed():
            _draw_plane(ax, comparison)
    else:
        draw_rows(ax, comparison, {name: text for name, (_, text) in BASELINE_MARKS.items()})
    return figure


def _draw_plane(ax: Axes, comparison: Comparison) -> None:
    style(ax, f"Cost, US dollars per {PER:,} queries", "Quality, mean score in %")
    _scale(ax, _all_costs(comparison))
    labels: list[Label] = []
    dots = _draw_singles(ax, comparison, labels)
    curves: _Spots = []
    shown = prominent(comparison)
    for index, router in enumerate(comparison.routers):
        if router.name in shown:
            curves += _draw_router(ax, comparison, index, labels)
        else:
            _draw_faint(ax, router, index)
        if router.name == comparison.recommended:
            dots += _draw_policies(ax, router, labels)
    _draw_count(ax, len(comparison.routers) - len(shown))
    dots += _draw_baselines(ax, comparison, labels)
    for point in comparison.measured:
        dots += _draw_measured(ax, point, labels)
    ax.margins(x=0.06, y=0.07)
    figure = ax.get_figure(root=True)
    if figure is not None:
        figure.legend(loc="outside lower left", ncols=4, fontsize=9, frameon=False, labelcolor=INK)
    important_first = sorted(labels, key=lambda label: (not label.must, not label.bold, -label.y))
    place_labels(ax, important_first, dots, curves, most=_MOST_LABELS)


def _draw_singles(ax: Axes, comparison: Comparison, labels: list[Label]) -> _Spots:
    found = {name: Dot.of(single.point) for name, single in comparison.singles.items()}
    dots = {name: dot for name, dot in found.items() if dot is not None}
    best = comparison.baselines["best_single"].expert
    composed = comparison.data.get("compositions", ())
    others = {name: dot for name, dot in dots.items() if name != best}
    alone = [dot for name, dot in others.items() if name not in composed]
    fixed = [dot for name, dot in others.items() if name in composed]
    for kind, marker, what in ((alone, "o", "one expert alone"), (fixed, "s", "one composition")):
        if kind:
            xs, ys = [dot.x for dot in kind], [dot.y for dot in kind]
            ax.scatter(xs, ys, s=22, marker=marker, color=MUTED, alpha=0.75, lw=0, zorder=2,
                       label=what)  # fmt: skip
    labels += [Label(dot.x, dot.y, name, MUTED) for name, dot in dots.items() if name != best]
    if best is not None and best in dots:
        dot = dots[best]
        draw_bars(ax, dot, INK)
        what = "best composition" if best in composed else "best single expert"
        ax.scatter(dot.x, dot.y, s=130, marker="*", color=INK, zorder=6, label=what)
        labels.append(Label(dot.x, dot.y, best, INK, bold=True, must=True))
    everyone = list(dots.values())
    mixed = _hull_line(np.array([dot.x for dot in everyone]), np.array([dot.y for dot in everyone]))
    ax.plot(*mixed, ls=(0, (4, 3)), lw=1.1, color=MUTED, zorder=1, label="mixing experts blindly")
    return [(dot.x, dot.y) for dot in everyone]


def _draw_router(ax: Axes, comparison: Comparison, index: int, labels: list[Label]) -> _Spots:
    router = comparison.routers[index]
    recommended = router.name == comparison.recommended
    color = color_of(comparison, router.name)
    dots = [dot for point in router.points if (dot := Dot.of(point)) is not None]
    cost, quality = np.array([dot.x for dot in dots]), np.array([dot.y for dot in dots])
    hull = upper_hull(cost, quality)
    width, alpha, size = (2.4, 1.0, 14) if recommended else (1.4, 0.7, 8)
    name = f"router {shortened(router.name)}" + (" (recommended)" if recommended else "")
    curve = _hull_line(cost, quality)
    (line,) = ax.plot(*curve, color=color, lw=width, alpha=alpha, zorder=4, label=plain(name))
    line.set_gid(curve_id(index))
    ax.scatter(hull.cost_V, hull.quality_V, s=size, color=color, alpha=alpha, zorder=4)
    vertices = list(zip(hull.cost_V.tolist(), hull.quality_V.tolist(), strict=True))
    if recommended:
        _draw_band(ax, [dot for dot in dots if (dot.x, dot.y) in vertices], color)
        _draw_operating_point(ax, router, color, labels)
    return list(zip(curve[0].tolist(), curve[1].tolist(), strict=True))


def _draw_faint(ax: Axes, router: RouterResult, index: int) -> None:
    """A curve among many, which its row in the report brings out."""
    dots = [dot for point in router.points if (dot := Dot.of(point)) is not None]
    curve = _hull_line(np.array([dot.x for dot in dots]), np.array([dot.y for dot in dots]))
    (line,) = ax.plot(*curve, color=MUTED, lw=0.8, alpha=0.45, zorder=3)
    line.set_gid(curve_id(index))


def _draw_count(ax: Axes, count: int) -> None:
    if count > 0:
        name = f"{count} other router{'s' if count > 1 else ''}"
        ax.plot([], [], color=MUTED, lw=0.8, alpha=0.45, label=name)


def _draw_band(ax: Axes, dots: Sequence[Dot], color: str) -> None:
    known = [(dot.x, dot.y, dot.y_error) for dot in dots if dot.y_error is not None]
    xs = [x for x, _, _ in known]
    low, high = [y - e[0] for _, y, e in known], [y + e[1] for _, y, e in known]
    ax.fill_between(xs, low, high, color=color, alpha=0.13, lw=0, zorder=1)


def _draw_operating_point(ax: Axes, router: RouterResult, color: str, labels: list[Label]) -> None:
    dot, offer = Dot.of(router.operating_point), router.verdict.offer
    if dot is None:
        return
    draw_bars(ax, dot, color)
    label = "recommended setting, 95% intervals"
    ring = ax.scatter(dot.x, dot.y, s=95, facecolors=PAPER, edgecolors=color, lw=2.2, zorder=5)
    ring.set_label(label)
    if offer.delta_quality or offer.cost_save:
        change = f"{points(offer.delta_quality)} points, {signed(-100 * offer.cost_save, 0)}% cost"
        labels.append(Label(dot.x, dot.y, change, color, bold=True, must=True))


def _draw_policies(ax: Axes, router: RouterResult, labels: list[Label]) -> _Spots:
    """Of the recommended router: policies that found their own setting in training."""
    drawn: _Spots = []
    for name, point in router.policies.items():
        dot = Dot.of(point)
        if dot is not None:
            label = "" if drawn else "its other policies"
            x, y = dot.x, dot.y
            ax.scatter(x, y, s=34, marker="D", fc=PAPER, ec=INK, zorder=5, label=label)
            labels.append(Label(dot.x, dot.y, name, INK))
            drawn.append((dot.x, dot.y))
    return drawn


def _draw_baselines(ax: Axes, comparison: Comparison, labels: list[Label]) -> _Spots:
    drawn = []
    for name, (marker, text) in BASELINE_MARKS.items():
        baseline = comparison.baselines.get(name)
        dot = Dot.of(baseline.point) if baseline else None
        if dot is not None:
            draw_bars(ax, dot, INK)
            ax.scatter(dot.x, dot.y, s=48, marker=marker, color=INK, zorder=5, lw=0)
            labels.append(Label(dot.x, dot.y, text, INK, must=True))
            drawn.append((dot.x, dot.y))
    return drawn


def _draw_measured(ax: Axes, point: MeasuredPoint, labels: list[Label]) -> _Spots:
    if point.cost_usd is None:
        return []
    x_error = reach(point.cost_usd, point.ci95.get("cost_usd"), PER)
    y_error = reach(point.quality, point.ci95.get("quality"), 100)
    dot = Dot(PER * point.cost_usd, 100 * point.quality, x_error, y_error)
    draw_bars(ax, dot, MEASURED)
    ax.scatter(dot.x, dot.y, s=70, marker="s", color=MEASURED, zorder=6, lw=0)
    labels.append(Label(dot.x, dot.y, point.name, MEASURED, bold=True, must=True))
    return [(dot.x, dot.y)]


def _scale(ax: Axes, costs: Sequence[float]) -> None:
    if min(costs) > 0 and max(costs) > _LOG_SPAN * min(costs):
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_minor_formatter(NullFormatter())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: plain(tick_usd(value))))


def _all_costs(comparison: Comparison) -> list[float]:
    points = [single.point for single in comparison.singles.values()]
    points += [point for router in comparison.routers for point in router.points]
    points += [b.point for name, b in comparison.baselines.items() if name in BASELINE_MARKS]
    costs = [PER * point.cost_usd for point in points if not math.isnan(point.cost_usd)]
    return costs + [PER * p.cost_usd for p in comparison.measured if p.cost_usd is not None]


def _hull_line(cost: Floats, quality: Floats) -> tuple[Floats, Floats]:
    """The hull between its vertices, sampled so that it is right on a logarithmic axis too."""
    hull = upper_hull(cost, quality)
    if len(hull.cost_V) < 2:
        return hull.cost_V, hull.quality_V
    steps = zip(hull.cost_V, hull.cost_V[1:], strict=False)
    grid = np.concatenate([np.linspace(left, right, 60) for left, right in steps])
    return grid, hull.quality_at(grid)
