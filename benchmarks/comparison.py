"""Medians of what `benchmarks/gateways.py` measured, kept as JSON, shown as the README's table."""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

KEPT = Path(__file__).parent / "results/gateways.json"
README = Path(__file__).parent.parent / "README.md"
NAMES = {"nginx", "vllm-router", "smg", "TensorZero", "Portkey", "LiteLLM"}
_BEGIN, _END = "<!-- gateways -->", "<!-- /gateways -->"
_KEEPS_UP = 0.95
"""Share of a fixed rate that must be answered for its latencies to mean anything."""

Figures = dict[str, dict[str, list[dict[str, float]]]]
"""Row, scenario, round: what was measured."""
Results = dict[str, Any]


def results(figures: Figures, versions: Mapping[str, str], rounds: int) -> Results:
    """Medians over rounds; None where a gateway could not keep up or answered wrongly."""
    direct = figures["direct"]
    rows = {row: _row(found, direct) for row, found in figures.items()}
    yardstick = rows.get("nginx", {}).get("per_s_64")
    for row in rows.values():
        per_s = row["per_s_64"]
        row["times_nginx"] = _rounded(per_s / yardstick) if per_s and yardstick else None
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{_processor()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "rounds": rounds,
        "versions": dict(versions),
        "rows": rows,
    }


def _row(
    found: Mapping[str, list[dict[str, float]]], direct: Mapping[str, list[dict[str, float]]]
) -> dict[str, float | None]:
    def median(scenario: str, name: str) -> float | None:
        rounds = [said[name] for said in found[scenario] if said["answered"]]
        return _rounded(statistics.median(rounds)) if rounds else None

    def added_ms(scenario: str, name: str, rate: float) -> float | None:
        pairs = zip(found[scenario], direct[scenario], strict=True)
        rounds = [
            (said[name] - beside[name]) / 1e3
            for said, beside in pairs
            if said["per_s"] >= _KEEPS_UP * rate
        ]
        return _rounded(statistics.median(rounds)) if len(rounds) == len(found[scenario]) else None

    tokens = zip(found["paced"], direct["paced"], strict=True)
    shares = [said["tokens_per_s"] / beside["tokens_per_s"] for said, beside in tokens]
    failed = sum(
        said[kind]
        for rounds in found.values()
        for said in rounds
        for kind in ("refused", "broken", "cut")
        if kind in said
    )
    return {
        "per_s_1": median("one", "per_s"),
        "per_s_64": median("many", "per_s"),
        "cpu_us": median("many", "cpu_us"),
        "added_p50_ms": added_ms("steady", "p50_us", 100),
        "added_p99_ms": added_ms("steady", "p99_us", 100),
        "first_token_added_p50_ms": added_ms("first", "first_p50_us", 20),
        "paced_share": _rounded(statistics.median(shares)),
        "rss_mb": _rounded(statistics.median(s["rss_mb"] for s in found["process"])),
        "start_s": _rounded(statistics.median(s["start_s"] for s in found["process"])),
        "failed": failed,
    }


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def _processor() -> str:
    match = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    return match[1] if match else platform.machine()


def keep(found: Results) -> None:
    """Write the results where the README's table is made from."""
    KEPT.parent.mkdir(exist_ok=True)
    KEPT.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def kept() -> Results:
    """What `keep` wrote."""
    found: Results = json.loads(KEPT.read_text(encoding="utf-8"))
    return found


_COLUMNS: Mapping[str, Callable[[dict[str, float | None]], str]] = {
    "requests/s, 64 at a time": lambda row: _shown(row["per_s_64"], ",.0f"),
    "× nginx": lambda row: _shown(row["times_nginx"], ".3f"),
    "requests/s, 1 at a time": lambda row: _shown(row["per_s_1"], ",.0f"),
    "CPU µs per request": lambda row: _shown(row["cpu_us"], ",.0f"),
    "added at 100/s, ms: p50": lambda row: _shown(row["added_p50_ms"], ".2f"),
    "p99": lambda row: _shown(row["added_p99_ms"], ".2f"),
    "added first token, ms": lambda row: _shown(row["first_token_added_p50_ms"], ".2f"),
    "256 streams, share of direct": lambda row: _shown(row["paced_share"], ".1%"),
    "MB": lambda row: _shown(row["rss_mb"], ",.0f"),
    "start, s": lambda row: _shown(row["start_s"], ".2f"),
}


def _shown(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def table(found: Results) -> str:
    """Markdown: a row per gateway, the fastest first, and under what conditions."""
    lines = [
        "| gateway | " + " | ".join(_COLUMNS) + " |",
        "|---|" + "--:|" * len(_COLUMNS),
    ]
    rows = {name: row for name, row in found["rows"].items() if name != "direct"}
    for name in sorted(rows, key=lambda name: -(rows[name]["per_s_64"] or 0)):
        version = found["versions"].get(name)
        called = f"{name} {version}" if version and name in NAMES else f"**{name}**"
        cells = [show(rows[name]) for show in _COLUMNS.values()]
        lines.append(f"| {called} | " + " | ".join(cells) + " |")
    lines += [
        "",
        f"Medians of {found['rounds']} interleaved rounds on {found['date']}: {found['machine']}, "
        f"Python {found['python']}; one core for the gateway, the other one for client and "
        "provider. –: it could not keep up.",
    ]
    return "\n".join(lines)


def update_readme() -> None:
    """Put the table of the kept results between its two marks."""
    text = README.read_text(encoding="utf-8")
    README.write_text(with_table(text, table(kept())), encoding="utf-8")


def with_table(text: str, made: str) -> str:
    """A README with another table.

    Raises:
        ValueError: It has not both of the marks.
    """
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not (begin and end):
        raise ValueError(f"README.md needs {_BEGIN} and {_END} around its table")
    return f"{before}{begin}\n{made}\n{end}{after}"
