"""Writes a comparison as metrics.json, frontier.png and one self-contained page, report.html."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson
from markupsafe import Markup

from eval.comparison import Comparison, RouterResult
from eval.metrics.robustness import CHANGES
from eval.report.details import (
    curve_table,
    gap_rows,
    pair_rows,
    price_rows,
    recall_rows,
    reliability_rows,
    robustness_rows,
    seconds_rows,
    setting_table,
)
from eval.report.frontier import frontier_png, frontier_svg
from eval.report.metrics_json import to_json
from eval.report.pages import environment, write_whole
from eval.report.pictures import color_of
from eval.report.reliability import reliability_svg
from eval.report.rows import (
    calibration_rows,
    offer_rows,
    rows,
    share_rows,
    single_rows,
    slice_rows,
    slice_summary,
)
from eval.report.wordings import (
    dollars,
    percent,
    percent_range,
    points,
    points_range,
    signed,
    signed_range,
)

_BADGES = {
    "yes": "Routing pays",
    "likely": "Routing probably pays",
    "unclear": "Unclear",
    "no": "Routing does not pay",
}


@dataclass(frozen=True, slots=True)
class Paths:
    """What was written."""

    metrics: Path
    frontier: Path
    report: Path


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the learning loop.

    Attributes:
        what: What happened, e.g. "promoted".
        version: Of the router that it happened to; "" where it is about none.
        reason: In words.
    """

    what: str
    version: str
    reason: str


def write_report(
    comparison: Comparison,
    directory: Path | str,
    *,
    title: str,
    notes: Sequence[str] = (),
    steps: Sequence[Step] = (),
) -> Paths:
    """Write the three files; each appears whole or not at all.

    Args:
        comparison: What was found.
        directory: Where to; it is made if it is not there.
        title: Of the page.
        notes: Sentences that a reader should see before the figures.
        steps: Of the learning loop, where one was gone through.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    paths = Paths(directory / "metrics.json", directory / "frontier.png", directory / "report.html")
    found = to_json(comparison)
    if steps:
        found["loop"] = [asdict(step) for step in steps]
    metrics = orjson.dumps(found, option=orjson.OPT_INDENT_2)
    page = render_report(comparison, title=title, notes=notes, steps=steps)
    write_whole(paths.metrics, lambda path: path.write_bytes(metrics))
    write_whole(paths.frontier, lambda path: frontier_png(comparison, path))
    write_whole(paths.report, lambda path: path.write_text(page, encoding="utf-8"))
    return paths


def render_report(
    comparison: Comparison, *, title: str, notes: Sequence[str] = (), steps: Sequence[Step] = ()
) -> str:
    """The page as one HTML document that needs no other file and no network."""
    templates = environment()
    script = templates.loader.get_source(templates, "report.js")[0] if templates.loader else ""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    template = templates.get_template("report.html.j2")
    context = {**_context(comparison, title, notes), **_details(comparison), "steps": steps}
    return template.render(context, script=Markup(script), script_sha256=digest)  # noqa: S704


def _context(comparison: Comparison, title: str, notes: Sequence[str]) -> dict[str, Any]:
    best = comparison.router(comparison.recommended)
    data = comparison.data
    return {
        "comparison": comparison,
        "title": title,
        "best": best,
        "badge": _BADGES[best.verdict.pays],
        "glance": _glance(comparison, best),
        "lead_notes": notes,
        "frontier": Markup(frontier_svg(comparison)),  # noqa: S704
        "rival": comparison.baselines["best_single"].expert,
        "costs": comparison.costs_known,
        "rows": rows(comparison),
        "weak": data["weak"],
        "strong": data["strong"],
        "offers": offer_rows(best),
        "shares": share_rows(comparison),
        "slices": slice_rows(best),
        "slice_summary": slice_summary(best),
        **_calibration(comparison, best),
        "singles": single_rows(comparison),
        "measured": _measured(comparison),
        "notes": comparison.notes,
        "replicates": f"{data['bootstrap_replicates']:,}",
    }


def _details(comparison: Comparison) -> dict[str, Any]:
    best = comparison.router(comparison.recommended)
    return {
        "settings": setting_table(comparison),
        "curves": curve_table(comparison),
        "pairs": pair_rows(comparison),
        "at_prices": price_rows(comparison),
        "gaps": gap_rows(best),
        "recall": recall_rows(best),
        "robustness": robustness_rows(comparison),
        "changes": CHANGES,
        "reliabilities": reliability_rows(best),
        "seconds": seconds_rows(comparison),
    }


def _glance(comparison: Comparison, best: RouterResult) -> list[dict[str, str]]:
    offer, point = best.verdict.offer, best.operating_point
    rival = comparison.baselines["best_single"].point
    found = [
        {
            "value": percent(point.quality),
            "what": f"quality of {best.name}; best single expert {percent(rival.quality)}",
            "range": percent_range(point.ci95.get("quality")),
        },
        {
            "value": points(offer.delta_quality),
            "what": "points against the best single expert",
            "range": points_range(offer.ci95.get("delta_quality")),
        },
    ]
    if comparison.costs_known:
        found += [
            {
                "value": percent(offer.cost_save, 0),
                "what": f"cost saved: {dollars(point.cost_usd)} instead of "
                f"{dollars(rival.cost_usd)} per 1,000 queries",
                "range": percent_range(offer.ci95.get("cost_save"), 0),
            },
            {
                "value": signed(best.figures["delta_aiq_vs_zero_router"]),
                "what": "frontier above mixing experts blindly, mean over all costs (ΔAIQ)",
                "range": signed_range(best.ci95.get("delta_aiq_vs_zero_router")),
            },
        ]
    return found


def _calibration(comparison: Comparison, best: RouterResult) -> dict[str, Any]:
    if best.calibration is None:
        return {"calibration": None, "reliability": None}
    svg = reliability_svg(
        best.calibration, best.calibration_chosen, color_of(comparison, best.name)
    )
    table = calibration_rows(best.calibration, best.calibration_chosen)
    return {"calibration": table, "reliability": Markup(svg)}  # noqa: S704


def _measured(comparison: Comparison) -> list[tuple[str, str]]:
    data = comparison.data
    found = [("Learned from", f"{data['n_train']:,} queries")]
    groups = (
        f" in {data['n_test_groups']:,} groups" if data["n_test_groups"] < data["n_test"] else ""
    )
    found.append(("Judged by", f"{data['n_test']:,} held-out queries{groups}"))
    if "train" in data:
        same = data["train"] == data["test"]
        files = data["train"] if same else f"{data['train']} and {data['test']}"
        found.append(("Files", f"{files} ({data['split']})"))
    found.append(("Experts", f"{len(data['experts'])}"))
    if data["left_out"]:
        found.append(("Left out", f"{len(data['left_out'])} experts, see the notes"))
    found.append(("Scores known", f"{percent(data['observed_share_test'])} of all held-out pairs"))
    found.append(
        ("Costs", "as recorded, else tokens times price" if comparison.costs_known else "unknown")
    )
    found.append(("Seed", str(comparison.seed)))
    return found
