"""The tables of the report: what each row says, as text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from eval.comparison import Baseline, Comparison, MeasuredPoint, Offer, Point, RouterResult
from eval.metrics.calibration import Calibration
from eval.metrics.intervals import Interval
from eval.report.pictures import VARIABLES, color_of, curve_id, prominent
from eval.report.wordings import (
    DASH,
    dollars,
    dollars_range,
    number,
    number_range,
    percent,
    percent_range,
    points,
    points_range,
    signed,
    signed_range,
    usd,
)

_MOST_SHARES = 8


@dataclass(frozen=True, slots=True)
class Row:
    """One way of choosing in the table of all."""

    name: str
    kind: str
    quality: str
    quality_range: str = ""
    detail: str = ""
    color: str = ""
    delta: str = ""
    delta_range: str = ""
    cost: str = DASH
    cost_range: str = ""
    save: str = ""
    save_range: str = ""
    aiq: str = ""
    aiq_range: str = ""
    gain: str = ""
    gain_range: str = ""
    apgr: str = ""
    apgr_range: str = ""
    pays: str = ""
    curve: str = ""
    drawn: bool = False


def rows(comparison: Comparison) -> list[Row]:
    """Routers first, then what was measured elsewhere, then the baselines."""
    found = [_router_row(comparison, index) for index in range(len(comparison.routers))]
    best = comparison.baselines["best_single"].point
    found += [_measured_row(point, best) for point in comparison.measured]
    for name, (title, detail) in _BASELINES.items():
        if name in comparison.baselines:
            found.append(_baseline_row(title, detail, comparison.baselines[name], best))
    return found


_BASELINES = {
    "best_single": ("Best single expert", "always {}, best in training"),
    "cheapest": ("Cheapest expert", "always {}"),
    "random": ("Random expert", "chance"),
    "prompt_length": ("Prompt length", "longer prompts to the stronger expert; best of its sweep"),
    "task_oracle": ("Task label", "best expert per task in training, label given"),
    "zero_router": ("Mixing experts blindly", "frontier of the single experts"),
    "oracle": ("Oracle", "best answer of each query; out of reach"),
}


def _router_row(comparison: Comparison, index: int) -> Row:
    router = comparison.routers[index]
    row = _point_row(f"Router {router.name}", router.operating_point)
    kind = "recommended" if router.name == comparison.recommended else "router"
    return replace(
        _with_offer(_with_figures(row, router.figures, router.ci95), router.verdict.offer),
        kind=kind,
        color=f"var({VARIABLES[color_of(comparison, router.name)]})",
        detail=_router_detail(router),
        pays=router.verdict.pays,
        curve=curve_id(index),
        drawn=router.name in prominent(comparison),
    )


def _router_detail(router: RouterResult) -> str:
    decision = router.decide_us_p50
    if math.isnan(decision):
        took = ""
    else:
        took = f", decides in {decision / 1000:.1f} ms" if decision >= 50 else ""
    return f"trained in {router.fit_s:.1f} s{took}"


def _measured_row(point: MeasuredPoint, best: Point) -> Row:
    ci95 = {name: Interval(*pair) for name, pair in point.ci95.items()}
    cost = math.nan if point.cost_usd is None else point.cost_usd
    row = _point_row(point.name, Point(None, point.quality, cost, point.share, ci95=ci95))
    row = replace(row, kind="live", color="var(--live)", detail="measured, not replayed")
    return _against(row, point.quality, cost, best)


def _baseline_row(title: str, detail: str, baseline: Baseline, best: Point) -> Row:
    point = baseline.point
    row = replace(_point_row(title, point), detail=detail.format(baseline.expert))
    if point == best:
        return row
    return _against(
        _with_figures(row, baseline.figures, baseline.ci95), point.quality, point.cost_usd, best
    )


def _point_row(name: str, point: Point) -> Row:
    return Row(
        name=name,
        kind="baseline",
        quality=percent(point.quality),
        quality_range=percent_range(point.ci95.get("quality")),
        cost=dollars(point.cost_usd),
        cost_range=dollars_range(point.ci95.get("cost_usd")),
    )


def _with_figures(row: Row, figures: Mapping[str, float], ci95: Mapping[str, Interval]) -> Row:
    return replace(
        row,
        aiq=number(figures["aiq"]) if "aiq" in figures else "",
        aiq_range=number_range(ci95.get("aiq")),
        gain=signed(figures["delta_aiq_vs_zero_router"]) if "aiq" in figures else "",
        gain_range=signed_range(ci95.get("delta_aiq_vs_zero_router")),
        apgr=number(figures["apgr"], 2) if "apgr" in figures else "",
        apgr_range=number_range(ci95.get("apgr"), 2),
    )


def _with_offer(row: Row, offer: Offer) -> Row:
    return replace(
        row,
        delta=points(offer.delta_quality),
        delta_range=points_range(offer.ci95.get("delta_quality")),
        save=percent(offer.cost_save, 0),
        save_range=percent_range(offer.ci95.get("cost_save"), 0),
    )


def _against(row: Row, quality: float, cost: float, best: Point) -> Row:
    save = (best.cost_usd - cost) / best.cost_usd if best.cost_usd > 0 else math.nan
    return replace(row, delta=points(quality - best.quality), save=percent(save, 0))


def offer_rows(router: RouterResult) -> list[dict[str, str]]:
    """The recommended setting, then what each loss of quality saves."""
    return [
        {
            "given_up": _ready_to_lose(offer.given_up),
            "weight": f"{router.points[offer.point].setting:.3g}",
            "delta": points(offer.delta_quality),
            "delta_range": points_range(offer.ci95.get("delta_quality")),
            "save": percent(offer.cost_save, 0),
            "save_range": percent_range(offer.ci95.get("cost_save"), 0),
        }
        for offer in router.verdict.offers
    ]


def _ready_to_lose(given_up: float | None) -> str:
    if not given_up:
        return "best balance, recommended" if given_up is None else "nothing, as cheap as can be"
    count = 100 * given_up
    return f"{count:g} point{'s' if count != 1 else ''}"


def share_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """Who gets which part of the queries, router by router, the largest parts first."""
    named = [(f"Router {r.name}", r.operating_point.share) for r in comparison.routers]
    named += [(point.name, point.share) for point in comparison.measured if point.share]
    return [{"name": name, "parts": _parts(share)} for name, share in named]


def _parts(share: Mapping[str, float]) -> list[dict[str, str]]:
    ranked = sorted(share.items(), key=lambda item: (-item[1], item[0]))
    shown, rest = ranked[:_MOST_SHARES], ranked[_MOST_SHARES:]
    if rest:
        shown.append((f"{len(rest)} others", sum(part for _, part in rest)))
    return [
        {
            "expert": name,
            "width": f"{100 * part:.1f}",
            "percent": percent(part, 0 if part >= 0.1 else 1),
        }
        for name, part in shown
    ]


def slice_rows(router: RouterResult) -> list[dict[str, str]]:
    """Task by task, the worst difference first."""
    ordered = sorted(router.verdict.slices, key=lambda part: (math.isnan(part.delta), part.delta))
    return [
        {
            "task": part.task,
            "count": f"{part.count:,}",
            "quality": percent(part.quality),
            "best": percent(part.best_single),
            "delta": points(part.delta),
            "delta_range": points_range(part.delta_ci),
            "save": percent(part.cost_save, 0),
            "finding": part.finding,
        }
        for part in ordered
    ]


def slice_summary(router: RouterResult) -> str:
    """How many tasks routing wins and loses."""
    findings = [part.finding for part in router.verdict.slices]
    won, lost, total = findings.count("wins"), findings.count("loses"), len(findings)
    text = f"Of {total} tasks {router.name} clearly wins {won} and clearly loses {lost}."
    if lost:
        text += f" It loses on {', '.join(f'“{task}”' for task in router.verdict.loses_on)}."
    return text


def calibration_rows(whole: Calibration, chosen: Calibration | None) -> list[dict[str, str]]:
    """Calibration error, Brier score and skill, on all experts and on the chosen ones."""

    def row(what: str, name: str, digits: int = 3) -> dict[str, str]:
        on_chosen = None if chosen is None else getattr(chosen, name)
        values = {
            "whole": number(getattr(whole, name), digits),
            "chosen": number(on_chosen, digits),
        }
        return {"what": what, **values}

    return [
        row("ECE, bins of equal width", "ece"),
        row("ECE, bins of equal size", "ece_mass"),
        row("Brier score", "brier"),
        row("Brier skill", "skill", 2),
    ]


def single_rows(comparison: Comparison) -> list[dict[str, str]]:
    """Every expert alone, the best first."""
    roles: dict[str | None, str] = {}
    if "cheapest" in comparison.baselines:
        roles[comparison.baselines["cheapest"].expert] = "cheapest in training"
    roles[comparison.baselines["best_single"].expert] = "best in training"
    found = []
    for name, single in comparison.singles.items():
        row = _point_row(name, single.point)
        found.append(
            {
                "name": name,
                "detail": roles.get(name, ""),
                "quality": row.quality,
                "quality_range": row.quality_range,
                "cost": row.cost,
                "cost_range": row.cost_range,
                "prices": _prices(comparison.data["prices"].get(name)),
            }
        )
    order = {name: -single.point.quality for name, single in comparison.singles.items()}
    return sorted(found, key=lambda row: order[row["name"]])


def _prices(price: Mapping[str, Any] | None) -> str:
    if price is None:
        return DASH
    if price["usd_per_request"] and not price["usd_per_1m_output"]:
        return f"{usd(price['usd_per_request'])} per request"
    return f"{usd(price['usd_per_1m_input'])} / {usd(price['usd_per_1m_output'])}"
