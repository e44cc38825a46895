"""Utility over requests, one line for each way of deciding."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from eval.report.pictures import INK, MUTED, router_color, style
from routers.records import Floats

_EVERY = 100


def draw_picture(curves: Mapping[str, Floats], width: int, drift_at: int, path: Path) -> None:
    """Write the SVG.

    Args:
        curves: Name to the mean utility of each `width` requests in a row.
        width: How many.
        drift_at: Where two experts swapped.
        path: Where to; its folder is made.
    """
    figure = Figure(figsize=(9, 4.6), layout="constrained")
    ax = figure.subplots()
    style(ax, "requests", f"utility, mean of {width} requests")
    for index, (name, curve_N) in enumerate(curves.items()):
        color = INK if index == 0 else router_color(index - 1)
        at_N = np.arange(width, width + len(curve_N))[::_EVERY]
        strong = name in ("full information", "the loop")
        ax.plot(at_N, curve_N[::_EVERY], color=color, label=name, lw=2.2 if strong else 1.2)
    ax.axvline(drift_at, color=MUTED, lw=1, ls="--")
    ax.legend(loc="lower left", fontsize=8.5, frameon=False, ncols=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "loop"}):
        figure.savefig(path, format="svg", metadata={"Date": None})
