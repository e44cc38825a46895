"""A comparison as a table on the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from eval.comparison import AtPrice, Comparison, MeasuredPoint, Point
from eval.metrics.intervals import Interval, Spread
from eval.report.metrics_json import to_json
from gateway.cli.console import out, show_json, show_table

if TYPE_CHECKING:
    from eval.report.report import Paths

_MOST_SINGLES = 6
_COLUMNS = {
    "who answers": "left",
    "quality": "right",
    "95 % interval": "right",
    "$ per 1,000": "right",
    "share of experts": "left",
}

_PRICE_COLUMNS = {
    "weight": "right",
    "best fixed way": "left",
    "its utility": "right",
    "router": "right",
    "over fixed, in points": "right",
    "over a router of experts": "right",
    "picks": "left",
}


def show_comparison(comparison: Comparison, paths: Paths, json: bool = False) -> None:
    """Print what was found, where the report is, and the finding in one sentence."""
    if json:
        show_json(to_json(comparison))
        return
    show_table("Quality and cost on the held-out queries", _COLUMNS, list(_rows(comparison)))
    if comparison.at_prices:
        title = "The recommended router over experts and compositions, by what costs weigh"
        show_table(title, _PRICE_COLUMNS, [_at_price(each) for each in comparison.at_prices])
    out.print(f"[bold]{comparison.headline}[/]", soft_wrap=True)
    for note in comparison.notes:
        out.print(f"  note: {note}", markup=False, soft_wrap=True)
    for path in (paths.report, paths.frontier, paths.metrics):
        out.print(str(path), markup=False, soft_wrap=True)


def _rows(comparison: Comparison) -> Iterator[list[str]]:
    ranked = sorted(comparison.singles.items(), key=lambda item: item[1].point.quality)
    if len(ranked) > _MOST_SINGLES:
        yield [f"({len(ranked) - _MOST_SINGLES} experts of lower quality)", "", "", "", ""]
    for expert, single in ranked[-_MOST_SINGLES:]:
        yield _row(f"always {expert}", single.point)
    for name in ("random", "prompt_length", "task_oracle"):
        if name in comparison.baselines:
            yield _row(name.replace("_", " "), comparison.baselines[name].point)
    for router in comparison.routers:
        chosen = " (recommended)" if router.name == comparison.recommended else ""
        yield _row(f"router {router.name}{chosen}", router.operating_point)
    for point in comparison.measured:
        yield _measured(point)
    if "oracle" in comparison.baselines:
        yield _row("oracle (knows every score)", comparison.baselines["oracle"].point)


def _row(name: str, point: Point) -> list[str]:
    interval = point.ci95.get("quality")
    return [
        name,
        _percent(point.quality),
        _interval(interval),
        _cost(point.cost_usd),
        _shares(point.share),
    ]


def _at_price(each: AtPrice) -> list[str]:
    return [
        f"{each.weight:g}",
        each.fixed,
        _percent(each.fixed_utility[0]),
        _percent(each.router_utility[0]),
        _gain(each.over_fixed),
        _gain(each.over_singles),
        ", ".join(f"{kind} {part:.0%}" for kind, part in each.shares.items()),
    ]


def _gain(gain: Spread) -> str:
    return "{:+.1f} ({:+.1f} to {:+.1f})".format(*(100 * end for end in gain))


def _measured(point: MeasuredPoint) -> list[str]:
    pair = point.ci95.get("quality")
    cost = math.nan if point.cost_usd is None else point.cost_usd
    shown = f"{100 * pair[0]:.1f} – {100 * pair[1]:.1f}" if pair else ""
    return [point.name, _percent(point.quality), shown, _cost(cost), _shares(point.share)]


def _percent(quality: float) -> str:
    return "unknown" if math.isnan(quality) else f"{100 * quality:.1f} %"


def _interval(interval: Interval | None) -> str:
    return f"{100 * interval.low:.1f} – {100 * interval.high:.1f}" if interval else ""


def _cost(usd: float) -> str:
    return "unknown" if math.isnan(usd) else f"{1000 * usd:.4g}"


def _shares(share: Mapping[str, float]) -> str:
    top = sorted(share.items(), key=lambda item: -item[1])[:3]
    if len(share) == 1 or top[0][1] < 0.1:
        return ""
    return ", ".join(f"{expert} {part:.0%}" for expert, part in top if part >= 0.005)
