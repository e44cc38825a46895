"""What all pictures share: colours, axes, error bars, and how a figure becomes PNG or SVG."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eval.comparison import Comparison, Point
from eval.report.wordings import PER

INK, MUTED, GRID, PAPER, MEASURED = "#1c2024", "#6c757d", "#e3e6ea", "#fefefe", "#c1121f"
DPI = 180
ROUTER_COLORS = ("#0072b2", "#d55e00", "#009e73", "#9b4f96", "#b8860b", "#3f8fd2", "#7a5c00")
VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
    PAPER: "--paper",
    MEASURED: "--live",
    **{color: f"--router-{index}" for index, color in enumerate(ROUTER_COLORS)},
}


def router_color(index: int) -> str:
    """The colour of the router at that place in a comparison."""
    return ROUTER_COLORS[index % len(ROUTER_COLORS)]


def curve_id(index: int) -> str:
    """What the curve of the router at that place is called in the picture of a page."""
    return f"curve-{index}"


def color_of(comparison: Comparison, name: str) -> str:
    """The colour of a router in a comparison; those that do not stand out share a quiet one."""
    shown = [router.name for router in comparison.routers if router.name in prominent(comparison)]
    return router_color(shown.index(name)) if name in shown else MUTED


def prominent(comparison: Comparison) -> list[str]:
    """The routers whose curves stand out: the recommended one, then the highest, seven in all."""
    figure = "aiq" if comparison.costs_known else "quality_max"
    ranked = sorted(comparison.routers, key=lambda router: -np.nan_to_num(router.figures[figure]))
    names = [comparison.recommended, *(router.name for router in ranked)]
    return list(dict.fromkeys(names))[: len(ROUTER_COLORS)]


@dataclass(frozen=True, slots=True)
class Dot:
    """A point to draw.

    Attributes:
        x: Dollars per 1,000 queries.
        y: Quality in percent.
        x_error: How far the interval reaches to the left and to the right; None unknown.
        y_error: The same downwards and upwards.
    """

    x: float
    y: float
    x_error: tuple[float, float] | None
    y_error: tuple[float, float] | None

    @classmethod
    def of(cls, point: Point) -> Self | None:
        """None when the cost or the quality is unknown."""
        if math.isnan(point.cost_usd) or math.isnan(point.quality):
            return None
        pairs = {name: (low.low, low.high) for name, low in point.ci95.items()}
        return cls(
            PER * point.cost_usd,
            100 * point.quality,
            reach(point.cost_usd, pairs.get("cost_usd"), PER),
            reach(point.quality, pairs.get("quality"), 100),
        )


def reach(
    value: float, interval: tuple[float, float] | None, scale: float
) -> tuple[float, float] | None:
    """How far an interval reaches below and above a value, times `scale`."""
    if interval is None:
        return None
    return max(0.0, scale * (value - interval[0])), max(0.0, scale * (interval[1] - value))


def draw_bars(ax: Axes, dot: Dot, color: str) -> None:
    """The intervals of a point as a cross."""
    ax.errorbar(
        dot.x,
        dot.y,
        xerr=None if dot.x_error is None else np.array(dot.x_error)[:, None],
        yerr=None if dot.y_error is None else np.array(dot.y_error)[:, None],
        fmt="none",
        ecolor=color,
        elinewidth=1.3,
        zorder=4,
    )


def style(ax: Axes, x_label: str, y_label: str) -> None:
    """Quiet axes: a grid, no frame, labels in ink."""
    ax.set_facecolor("none")
    ax.set_xlabel(x_label, color=INK, fontsize=10.5)
    ax.set_ylabel(y_label, color=INK, fontsize=10.5)
    ax.tick_params(colors=MUTED, labelsize=9, length=0)
    ax.grid(visible=True, color=GRID, lw=0.8)
    ax.set_axisbelow(True)
    for side, spine in ax.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(GRID)


def to_png(figure: Figure, path: Path) -> None:
    """Write a figure as PNG on white."""
    with unknown_letters_allowed():
        figure.savefig(path, format="png", dpi=DPI, facecolor=PAPER)


def to_svg(figure: Figure, salt: str, title: str) -> str:
    """A figure as an inline SVG element that needs nothing else and follows the page's colours.

    Args:
        figure: What to draw.
        salt: Different for each picture of a page, so that ids don't clash.
        title: What a screen reader says; plain text without markup.
    """
    buffer = io.StringIO()
    with rc_context({"svg.hashsalt": salt, "svg.fonttype": "path"}), unknown_letters_allowed():
        figure.savefig(buffer, format="svg", transparent=True)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r' (?:width|height)="[^"]*"', "", svg, count=2)
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{title}"', 1)
    for color, variable in VARIABLES.items():
        svg = svg.replace(color, f"var({variable})")
    return svg


@contextmanager
def unknown_letters_allowed() -> Iterator[None]:
    """Draw letters that the font lacks as boxes, without a warning."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        yield


def plain(text: str) -> str:
    """Text that matplotlib reads neither as mathematics nor as hidden from a legend."""
    return text.replace("$", r"\$").lstrip("_") or "?"
