"""The learning loop in a known world: eight experts, 20,000 requests, two of them swap at 12,000.

`python -m benchmarks.loop.run` prints a table and keeps figures and the picture that
docs/learning-loop.md shows; `--json` prints the figures instead, `--dry` keeps nothing.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.loop.arms import ONLINE, RECIPE, buckets, decided, informed
from benchmarks.loop.cycle import Loop, Rules, utility
from benchmarks.loop.picture import draw_picture
from benchmarks.loop.world import Indices, Stream, make_stream
from routers.records import Floats

ROOT = Path(__file__).resolve().parents[2]
PICTURE = ROOT / "docs/figures/loop.svg"
RESULTS = ROOT / "benchmarks/results/loop.json"
SMOOTH = 500
_BEFORE = 2000
_LEARNED_FROM = 3000


@dataclass(frozen=True, slots=True)
class Line:
    """What came of one way of deciding.

    Attributes:
        name: Of the way.
        before: Utility of the last 2,000 requests before the swap, over that of full information.
        after: The same of all requests from 2,000 after it on.
        recovered: Requests after the swap from which on any 500 in a row are worth at least 90 %
            of full information; None: never.
        total: Utility of the whole stream, over that of full information.
        seconds: What it took.
    """

    name: str
    before: float
    after: float
    recovered: int | None
    total: float
    seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class Simulated:
    """Lines of the table, what each got request by request, and what the loop did when."""

    lines: tuple[Line, ...]
    worth: Mapping[str, Floats]
    events: tuple[tuple[int, str, str], ...]


def simulate(rows: int, drift_at: int, collected: int, seed: int, rules: Rules) -> Simulated:
    """Everybody on the same stream."""
    stream = make_stream(rows, drift_at, seed=seed + 1)
    known = make_stream(collected, collected, seed=seed + 2)
    before = informed(make_stream(_LEARNED_FROM, _LEARNED_FROM, seed=seed + 3), _LEARNED_FROM)
    after = informed(make_stream(_LEARNED_FROM, 0, seed=seed + 4), _LEARNED_FROM)
    split = np.arange(drift_at), np.arange(drift_at, rows)
    loop = Loop(stream, known, rules, seed)

    def full() -> Indices:
        return np.concatenate([decided(before, stream, split[0]), decided(after, stream, split[1])])

    ways: dict[str, Callable[[], Indices]] = {
        "full information": full,
        "the loop": loop.run,
        "frozen": lambda: decided(before, stream, np.arange(rows)),
        "Thompson, 7 buckets": lambda: buckets(stream, known, seed),
        **{name: _online(name, stream, known, seed) for name in ONLINE},
    }
    worth, seconds = {}, {}
    for name, way in ways.items():
        began = time.perf_counter()
        worth[name] = utility(stream, way())
        seconds[name] = time.perf_counter() - began
    best_N = worth["full information"]
    lines = [_line(name, worth[name], best_N, drift_at, seconds[name]) for name in ways]
    return Simulated(tuple(lines), worth, tuple(loop.events))


def _online(name: str, stream: Stream, known: Stream, seed: int) -> Callable[[], Indices]:
    return lambda: ONLINE[name].run(stream, known, seed)


def _line(name: str, worth_N: Floats, best_N: Floats, drift_at: int, seconds: float) -> Line:
    def share(part: slice) -> float:
        return float(worth_N[part].mean() / best_N[part].mean())

    return Line(
        name,
        before=share(slice(max(0, drift_at - _BEFORE), drift_at)),
        after=share(slice(min(drift_at + _BEFORE, len(worth_N) - SMOOTH), None)),
        recovered=_recovered(worth_N[drift_at:], best_N[drift_at:]),
        total=share(slice(None)),
        seconds=seconds,
    )


def _recovered(worth_N: Floats, best_N: Floats) -> int | None:
    low_N = smooth(worth_N) < 0.9 * smooth(best_N)
    if not low_N.any():
        return 0
    last = int(np.flatnonzero(low_N)[-1])
    return None if last == len(low_N) - 1 else last + 1


def smooth(values_N: Floats, width: int = SMOOTH) -> Floats:
    """Mean of each `width` values in a row, length N - width + 1."""
    total_N = np.concatenate([[0.0], np.cumsum(values_N)])
    means_N: Floats = (total_N[width:] - total_N[:-width]) / width
    return means_N


def as_json(found: Simulated, asked: Mapping[str, Any]) -> dict[str, Any]:
    """JSON-able."""
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "command": "python -m benchmarks.loop.run",
        "recipe": RECIPE,
        **asked,
        "lines": [asdict(line) for line in found.lines],
        "events": [list(event) for event in found.events],
    }


def main() -> None:
    """Simulate, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--drift-at", type=int, default=12_000)
    parser.add_argument("--collected", type=int, default=300, help="requests everybody was asked")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--dry", action="store_true", help="keep neither figures nor picture")
    args = parser.parse_args()
    rules = Rules()
    found = simulate(args.rows, args.drift_at, args.collected, args.seed, rules)
    asked = {
        "rows": args.rows, "drift_at": args.drift_at, "collected": args.collected,
        "seed": args.seed, "rules": asdict(rules),
    }  # fmt: skip
    kept = as_json(found, asked)
    console = Console(width=120)
    if args.json:
        console.print_json(json.dumps(kept))
    else:
        console.print(_table(found))
        for at, what, why in found.events:
            console.print(f"{at:6d} {what}: {why}", markup=False)
    if not args.dry:
        RESULTS.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        curves = {name: smooth(worth_N) for name, worth_N in found.worth.items()}
        draw_picture(curves, SMOOTH, args.drift_at, PICTURE)


def _table(found: Simulated) -> Table:
    table = Table("", "before", "from 2,000 after", "recovered after", "whole stream", "s")
    for line in found.lines:
        recovered = "never" if line.recovered is None else f"{line.recovered:,}"
        table.add_row(
            line.name, f"{line.before:.1%}", f"{line.after:.1%}", recovered,
            f"{line.total:.1%}", f"{line.seconds:.0f}",
        )  # fmt: skip
    return table


if __name__ == "__main__":
    main()
