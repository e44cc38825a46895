"""Draws whether a router's predictions come true: predicted quality against the score that came."""

from __future__ import annotations

from matplotlib.figure import Figure

from eval.metrics.calibration import Calibration
from eval.report.pictures import GRID, INK, MUTED, PAPER, style, to_svg


def reliability_svg(whole: Calibration, chosen: Calibration | None, color: str) -> str:
    """The picture as an inline SVG element.

    Args:
        whole: Of all predictions.
        chosen: Of the predictions for the experts that were chosen.
        color: Of the router.
    """
    figure = Figure(figsize=(5.4, 4.6), layout="constrained")
    ax = figure.add_subplot()
    style(ax, "Predicted quality in %", "Score that came, mean in %")
    ax.plot([0, 100], [0, 100], ls=(0, (4, 3)), lw=1.1, color=MUTED, label="as predicted")
    for found, name, marker, shade in (
        (whole, "all experts", "o", MUTED),
        (chosen, "chosen expert", "s", color),
    ):
        if found is None:
            continue
        count = sum(b.count for b in found.bins)
        ax.scatter(
            [100 * b.predicted for b in found.bins],
            [100 * b.observed for b in found.bins],
            s=[20 + 240 * b.count / count for b in found.bins],
            marker=marker,
            color=shade,
            alpha=0.8,
            lw=0,
            label=name,
        )
    ax.set_xlim(-3, 103)
    ax.set_ylim(-3, 103)
    legend = ax.legend(fontsize=9, facecolor=PAPER, edgecolor=GRID, labelcolor=INK)
    for handle in legend.legend_handles[1:]:
        handle.set_sizes([45])  # type: ignore[union-attr]
    return to_svg(figure, "reliability", "Predicted quality against the score that came")
