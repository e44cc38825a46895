"""The tables that stand folded in the report: further figures, pairs, gaps, robustness."""

from __future__ import annotations

from typing import Any

from eval.comparison import Comparison, RouterResult
from eval.metrics.intervals import Interval
from eval.metrics.pairs import Difference, Pair
from eval.metrics.robustness import CHANGES
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
)

_SIGNIFICANT = 0.05
_LEAST_P = 0.001

_COLUMNS = (
    ("arena_score", "Arena score", "RouterArena's harmonic mean of accuracy and log cost"),
    ("top1_optimal", "Best choice", "Share of queries sent to one of the best experts on them"),
    ("optimal_selection", "Thrifty choice", "Of right answers, those by the cheapest right expert"),
    ("optimal_cost", "Thrifty cost", "Cost of the cheapest right answers over what was paid"),
    ("optimal_accuracy", "Of the oracle", "Quality over the oracle's"),
    ("gain_at_random", "Gain@R", "Gain over a random expert, cost counting for nothing"),
    ("gain_at_best", "Gain@B", "Gain over the best single expert, cost counting for nothing"),
    ("gap_at_oracle", "Gap@O", "Distance from the oracle, cost counting for nothing"),
)
_CURVE = (
    ("aiq", "AIQ", "Mean height of the frontier over all costs"),
    ("aiq_code", "AIQ, as coded", "The same as RouterBench's code has it: divided by the top cost"),
    ("hypervolume", "Hypervolume", "Share of the plane that its settings dominate"),
    ("pareto_distance", "ParetoDist", "Distance from the front of everything, itself included"),
    ("pareto_distance_others", "ParetoDist, others", "The same from the front of all others"),
    ("cpt50", "CPT 50 %", "Share of strong calls that closes half of the gap"),
    ("cpt80", "CPT 80 %", "Share of strong calls that closes four fifths of it"),
)


def setting_table(comparison: Comparison) -> dict[str, Any]:
    """Figures of each router at one setting, in percent."""
    columns = [{"name": name, "title": title} for _, name, title in _COLUMNS]
    columns.append({"name": "Cost of a pass", "title": "Dollars per 1,000 right answers"})
    rows = []
    for router in comparison.routers:
        cells = [
            _cell(percent(router.figures.get(key)), percent_range(router.ci95.get(key)))
            for key, _, _ in _COLUMNS
        ]
        cost = router.ci95.get("cost_of_pass")
        cells.append(_cell(dollars(router.figures.get("cost_of_pass")), dollars_range(cost)))
        rows.append({"name": router.name, "cells": cells})
    return {"columns": columns, "rows": rows}


def curve_table(comparison: Comparison) -> dict[str, Any]:
    """Figures of each router's whole curve."""
    columns = [{"name": name, "title": title} for _, name, title in _CURVE]
    rows = [
        {
            "name": router.name,
            "cells": [
                _cell(number(router.figures.get(key)), number_range(router.ci95.get(key)))
                for key, _, _ in _CURVE
            ],
        }
        for router in comparison.routers
    ]
    return {"columns": columns, "rows": rows}


def price_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """The router over experts and compositions at each price of quality."""
    return [
        {
            "weight": number(each.weight, 2),
            "fixed": each.fixed,
            "cells": [
                _cell(show(figure[0]), ranged(Interval(*figure[1:])))
                for figure, show, ranged in (
                    (each.fixed_utility, percent, percent_range),
                    (each.router_utility, percent, percent_range),
                    (each.over_fixed, points, points_range),
                    (each.over_singles, points, points_range),
                )
            ],
            "shares": ", ".join(f"{kind} {percent(part, 0)}" for kind, part in each.shares.items()),
        }
        for each in comparison.at_prices
    ]


def pair_rows(comparison: Comparison) -> list[dict[str, str]]:
    """What tells two routers apart, and whether it is chance."""
    return [_pair_row(pair) for pair in comparison.pairs]


def _pair_row(pair: Pair) -> dict[str, str]:
    quality, cost, aiq = pair.quality, pair.cost, pair.aiq
    return {
        "first": pair.first,
        "second": pair.second,
        "quality": points(quality.difference),
        "quality_range": points_range(quality.ci95),
        "p": p_value(pair.p_holm),
        "cost": _signed_dollars(cost),
        "cost_range": dollars_range(cost.ci95),
        "aiq": signed(aiq.difference),
        "aiq_range": signed_range(aiq.ci95),
        "aiq_p": p_value(aiq.p),
        "finding": _finding(pair),
    }


def _signed_dollars(cost: Difference) -> str:
    text = dollars(cost.difference)
    return f"+{text}" if cost.difference > 0 else text


def _finding(pair: Pair) -> str:
    if not pair.p_holm < _SIGNIFICANT:
        return "same"
    return "wins" if pair.quality.difference > 0 else "loses"


def p_value(p: float) -> str:
    """A p-value with as many digits as mean something."""
    if p != p:
        return DASH
    return f"below {_LEAST_P}" if p < _LEAST_P else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def gap_rows(router: RouterResult) -> list[dict[str, str]]:
    """The parts of the distance from the oracle, in points."""
    parts = (
        ("gap_within_tasks", "Within tasks: who is right on this very question"),
        ("gap_learning_tasks", "Learning who is best per task, from the training side"),
        ("gap_router", "The router against that; below nought, it knows more than the task"),
        ("regret", "All of it"),
        ("gap_to_oracle_at_its_cost", "With no more money than the router spends"),
    )
    return [
        {
            "what": what,
            "value": points(router.figures[key]),
            "range": points_range(router.ci95.get(key)),
        }
        for key, what in parts
        if key in router.figures and router.figures[key] == router.figures[key]
    ]


def recall_rows(router: RouterResult) -> list[dict[str, str]]:
    """How often a router is right, by how many experts are."""
    return [
        {
            "band": row.band,
            "count": f"{row.count:,}",
            "quality": percent(row.quality),
            "random": percent(row.random),
        }
        for row in router.recall
    ]


def robustness_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """Whose decisions change when they should not."""
    rows = []
    for router in comparison.routers:
        found = router.robustness
        if found is not None:
            rows.append(
                {
                    "name": router.name,
                    "flips": [percent(found.flips[kind], 0) for kind in CHANGES],
                    "target": found.target or DASH,
                    "before": percent(found.before, 0),
                    "after": percent(found.after, 0),
                }
            )
    return rows


def reliability_rows(router: RouterResult) -> list[dict[str, str]]:
    """Whether predictions come true, expert by expert, the least reliable first."""
    ranked = sorted(router.expert_calibration.items(), key=lambda item: -item[1].ece)
    return [
        {
            "expert": expert,
            "ece": number(found.ece),
            "ece_mass": number(found.ece_mass),
            "brier": number(found.brier),
            "skill": number(found.skill, 2),
        }
        for expert, found in ranked
    ]


def seconds_rows(comparison: Comparison) -> list[dict[str, str]]:
    """How long what took."""
    return [{"what": what, "value": f"{s:.1f} s"} for what, s in comparison.seconds.items()]


def _cell(value: str, interval: str) -> dict[str, str]:
    return {"value": value, "range": interval}
