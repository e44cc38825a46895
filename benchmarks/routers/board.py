"""What `benchmarks/routers/leaderboard.py` measured, kept as JSON, shown as docs/leaderboard.md."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from eval.comparison import Comparison, RouterResult

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "benchmarks/results/routers.json"
SHOWN = ROOT / "docs/leaderboard.md"

Results = dict[str, Any]
DASH = "–"
_HEAD = """# Leaderboard of routers

Every router on every table of real models' graded answers that the project is tuned on: learned
from the `train` split, judged by the `dev` split. Made by `{command}`, which keeps the figures in
[`routers.json`](../benchmarks/results/routers.json); a test checks that this page is what they
render to. Seconds and microseconds are of one thread on the machine named under each table, which
had other work to do; compare them within a table only.

**Quality** is the mean score when cost counts for nothing (cost weight 0), with its 95 %
interval; **saved** the cost saved at equal quality (the cheapest setting of the sweep that is at
least as good as the best single expert, read off the dev split); **AIQ** the mean height of the
cost–quality curve, and **ΔAIQ** what it stands above mixing single experts blindly.
[Methods](methods.md) says what each router is and what the figures mean. `default` is what
`pointsman train` makes.
"""


def of_data(found: Comparison, command: str) -> Results:
    """What one comparison says, for the board."""
    best, oracle = found.baselines["best_single"], found.baselines["oracle"]
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}",
        "command": command,
        "seconds": round(sum(found.seconds.values()), 1),
        "n_train": found.data["n_train"],
        "n_test": found.data["n_test"],
        "experts": len(found.data["experts"]),
        "best_single": {"expert": best.expert, "quality": _rounded(best.point.quality)},
        "random": _rounded(found.baselines["random"].point.quality),
        "oracle": _rounded(oracle.point.quality),
        "recommended": found.recommended,
        "routers": {router.name: _of_router(router) for router in found.routers},
        "left_out": [note for note in found.notes if "could not be trained" in note],
    }


def _of_router(router: RouterResult) -> dict[str, Any]:
    free = router.points[0]
    interval = free.ci95.get("quality")
    figures = router.figures
    return {
        "quality": _rounded(free.quality),
        "quality_ci95": None if interval is None else [_rounded(x) for x in interval.as_list()],
        "cost_save_at_best_single": _rounded(figures["cost_save_at_best_single"]),
        "aiq": _rounded(figures["aiq"]),
        "delta_aiq": _rounded(figures["delta_aiq_vs_zero_router"]),
        "apgr": _rounded(figures["apgr"]),
        "ece": _rounded(router.calibration.ece if router.calibration else math.nan),
        "fit_s": round(router.fit_s, 1),
        "decide_us": round(router.decide_us_p50),
    }


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)


def read() -> Results:
    """What is kept; nothing where there is nothing yet."""
    return json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}


def keep(results: Results) -> None:
    """Write the figures and the page."""
    KEPT.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    SHOWN.write_text(render(results), encoding="utf-8")


def render(results: Results) -> str:
    """The page."""
    command = "python benchmarks/routers/leaderboard.py"
    parts = [_HEAD.format(command=command), _summary(results)]
    parts += [_of_one(name, results[name]) for name in sorted(results)]
    return "\n".join(parts)


def _summary(results: Results) -> str:
    """Points over the best single expert, router by router and table by table."""
    sets = sorted(results)
    names = list(dict.fromkeys(name for each in sets for name in results[each]["routers"]))
    rows = []
    for name in names:
        gains = {
            each: _gain(results[each], name) for each in sets if name in results[each]["routers"]
        }
        mean = sum(gains.values()) / len(gains)
        whole = f"{100 * mean:+.1f}" if len(gains) == len(sets) else DASH
        cells = [f"{100 * gains[each]:+.1f}" if each in gains else DASH for each in sets]
        rows.append((-mean if len(gains) == len(sets) else 1.0, name, [f"`{name}`", *cells, whole]))
    lines = [row for _, _, row in sorted(rows)]
    title = "## Points of quality over the best single expert\n\nCost counting for nothing.\n"
    return title + "\n" + _table(["router", *sets, "mean"], lines)


def _gain(found: Mapping[str, Any], name: str) -> float:
    return float(found["routers"][name]["quality"]) - float(found["best_single"]["quality"])


def _of_one(name: str, found: Mapping[str, Any]) -> str:
    best = found["best_single"]
    about = (
        f"{found['n_train']:,} queries to learn from, {found['n_test']:,} to judge by, "
        f"{found['experts']} experts. Best single expert {best['expert']} "
        f"{_percent(best['quality'])}, random {_percent(found['random'])}, oracle "
        f"{_percent(found['oracle'])}. The comparison recommends `{found['recommended']}`."
    )
    ranked = sorted(found["routers"].items(), key=lambda item: -item[1]["quality"])
    rows = [
        [
            f"`{router}`",
            _quality(each),
            _percent(each["cost_save_at_best_single"], 0),
            _number(each["aiq"]),
            _signed(each["delta_aiq"]),
            _number(each["apgr"], 2),
            _number(each["ece"]),
            f"{each['fit_s']:.1f}",
            f"{each['decide_us']:,}",
        ]
        for router, each in ranked
    ]
    heads = ["router", "quality", "saved", "AIQ", "ΔAIQ", "APGR", "ECE", "fit, s", "decision, µs"]
    made = f"{found['date']}, {found['machine']}, {found['seconds']:.0f} s: `{found['command']}`"
    left_out = "".join(f"{note}\n\n" for note in found["left_out"])
    return f"\n## {name}\n\n{about}\n\n{_table(heads, rows)}\n{left_out}{made}\n"


def _table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---", *["--:"] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _quality(each: Mapping[str, Any]) -> str:
    text = _percent(each["quality"])
    if each["quality_ci95"] is None:
        return text
    low, high = each["quality_ci95"]
    return f"{text} ({100 * low:.1f}–{100 * high:.1f})"


def _percent(value: float | None, digits: int = 1) -> str:
    return DASH if value is None else f"{100 * value:.{digits}f} %"


def _number(value: float | None, digits: int = 3) -> str:
    return DASH if value is None else f"{value:.{digits}f}"


def _signed(value: float | None) -> str:
    return DASH if value is None else f"{value:+.4f}"
