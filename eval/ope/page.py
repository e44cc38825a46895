"""Writes a study as ope.json and one self-contained page, ope.html."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from eval.ope.front import FrontPoint
from eval.ope.judge import Value
from eval.ope.study import Study
from eval.report.pages import environment
from eval.report.pages import write_page as write_both
from eval.report.pictures import INK, MUTED, PAPER, router_color, style, to_svg
from eval.report.wordings import PER

_NAMES = {
    "dr": "doubly robust (the verdict rests on it)",
    "snips": "self-normalised importance sampling",
    "ips": "importance sampling",
    "dm": "model alone",
    "dr_clipped": "doubly robust, weights clipped",
    "dr_switch": "doubly robust, large weights left to the model",
    "dr_shrunk": "doubly robust, weights shrunk",
    "dr_gentle": "doubly robust, weights smoothed",
}


def write_page(study: Study, directory: Path | str) -> Path:
    """Write both files, each whole or not at all; returns the page.

    Args:
        study: What was found.
        directory: Where to; it is made if it is not there.
    """
    return write_both(render_page(study), study.as_json(), directory, "ope")


def render_page(study: Study) -> str:
    """The page as one HTML document that needs no other file and no network."""
    judgement = study.judgement
    return (
        environment()
        .get_template("ope.html.j2")
        .render(
            study=study,
            support=judgement.support,
            refused=judgement.refused,
            gains=[_gain(study, objective) for objective in judgement.gains],
            estimators=[
                {"name": _NAMES[name], **_shown(value, 100)}
                for name, value in judgement.values.get("quality", {}).items()
            ],
            shares=sorted(judgement.share.items(), key=lambda item: -item[1]),
            policies=[_policy(point) for point in study.policies],
            front=Markup(_front_svg(study)) if _drawable(study) else None,  # noqa: S704
        )
    )


def _gain(study: Study, objective: str) -> dict[str, Any]:
    scale = 1.0 if objective == "cost" else 100.0
    return {
        "objective": objective,
        "served": f"{scale * study.judgement.served[objective].value:.4g}",
        "candidate": f"{scale * study.judgement.values[objective]['dr'].value:.4g}",
        **_shown(study.judgement.gains[objective], scale),
    }


def _shown(value: Value, scale: float) -> dict[str, str]:
    interval, safe = value.bootstrap, value.bernstein
    return {
        "value": f"{scale * value.value:.4g}",
        "range": ""
        if interval is None
        else f"{scale * interval.low:.4g} to {scale * interval.high:.4g}",
        "safe": "" if safe is None else f"{scale * safe.low:.4g} to {scale * safe.high:.4g}",
    }


def _policy(point: FrontPoint) -> dict[str, str]:
    cost = "" if point.cost is None else f"{point.cost.value:.4g}"
    if point.quality is None:
        return {"name": point.policy, "value": "the log can't tell", "range": "", "cost": cost}
    return {"name": point.policy, **_shown(point.quality, 100), "cost": cost}


def _drawable(study: Study) -> bool:
    return any(point.quality is not None and point.cost is not None for point in study.front)


def _front_svg(study: Study) -> str:
    figure = Figure(figsize=(8.2, 4.4), layout="constrained")
    ax = figure.add_subplot()
    style(ax, "$ per 1,000 requests", "quality, %")
    known = [point for point in study.front if point.quality and point.cost]
    x_P = PER * np.array([point.cost.value for point in known if point.cost])
    y_P = 100 * np.array([point.quality.value for point in known if point.quality])
    half_P = 196 * np.array([point.quality.stderr for point in known if point.quality])
    color = router_color(0)
    ax.errorbar(x_P, y_P, yerr=half_P, color=color, marker="o", lw=1.4, elinewidth=1, zorder=3)
    for x, y, point in zip(x_P, y_P, known, strict=True):
        ax.annotate(
            point.setting, (x, y), xytext=(5, 5), textcoords="offset points",
            fontsize=8, color=MUTED,
        )  # fmt: skip
    for point in study.policies:
        if point.quality and point.cost:
            x, y = PER * point.cost.value, 100 * point.quality.value
            half = 196 * point.quality.stderr
            ax.errorbar([x], [y], yerr=[half], color=router_color(1), marker="s", zorder=4)
            ax.annotate(
                point.setting, (x, y), xytext=(6, -11), textcoords="offset points",
                fontsize=8, color=router_color(1),
            )  # fmt: skip
    served = study.judgement.served
    if "cost" in served:
        x, y = PER * served["cost"].value, 100 * served["quality"].value
        half = 196 * served["quality"].stderr
        ax.errorbar([x], [y], yerr=[half], color=INK, marker="D", mec=PAPER, ms=8, zorder=4)
        ax.annotate(
            "what served", (x, y), xytext=(8, -12), textcoords="offset points", fontsize=9,
            color=INK,
        )  # fmt: skip
    told = "Quality over cost of the candidate at several cost weights and under each named policy"
    return to_svg(figure, "ope", told)
