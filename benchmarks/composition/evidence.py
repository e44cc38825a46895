"""What compositions are worth on recorded answers: all tables of docs/compositions.md.

`python benchmarks/composition/evidence.py` prints them, and keeps the figures in
benchmarks/results/compositions.json (or `--out`); `--only a,d` some parts, `--sets bfcl,mot` some
sets.
Everything is chosen on `train` and judged by `dev`; where `dev` is small, also by all rows, each
fold by what is learned from the others. So is part d on the sets that are large enough to tell.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.composition import curves, gates, promises
from benchmarks.composition.data import DATA, ROOT, SETS, recorded
from eval.compositions.topologies import ComposedPool, at_prices
from eval.compositions.world import CompositionWorld
from eval.metrics.intervals import Spread

KEPT = ROOT / "benchmarks/results/compositions.json"
_CROSSED = ("mot", "date")
_WIDE = ("routerdc7b", "llmrouter", "routellm_all", "mmlu_pro", "routerbench")


def main() -> None:
    """Run what is asked for; every table is printed as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="a,b,c,d")
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--out", type=Path, default=KEPT)
    asked = parser.parse_args()
    if not DATA.is_dir():
        sys.exit(f"there is no outcome data at {DATA}")
    found: dict[str, Any] = json.loads(asked.out.read_text()) if asked.out.exists() else {}
    parts = set(asked.only.split(","))
    if "a" in parts:
        found["a"] = [asdict(each) for each in gates.gated()]
        show_gates(found["a"])
        asked.out.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    if parts & {"b", "c", "d"}:
        for name in asked.sets.split(","):
            _of_set(name, parts, found)
            asked.out.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


def _of_set(name: str, parts: set[str], found: dict[str, Any]) -> None:
    data = recorded(SETS[name])
    wide = name in _WIDE
    if wide and "d" in parts:
        what = "all, 3 folds"
        rows = _topologies(name, what, data.crossed(3))
        found.setdefault("d", {})[f"{name}, {what}"] = rows
        show_topologies(rows)
    # Without the length of answers, what is spent tells nothing.
    if data.named.listed or (wide and not parts & {"b", "c"}):
        return
    judged: dict[str, Sequence[CompositionWorld]] = {"dev": [data.world()]}
    if name in _CROSSED:
        judged["all, 5 folds"] = data.crossed()
    for what, worlds in judged.items():
        # Where agreement is simulated there is nothing to go by after an answer.
        if "b" in parts and data.named.wrong_alike is None:
            rows = [asdict(curves.measured(name, what, worlds))]
            found.setdefault("b", {})[f"{name}, {what}"] = rows
            show_curves(rows)
        if "c" in parts and what == "dev":
            budgets = [asdict(each) for each in promises.spent(name, worlds[0])]
            risks = [asdict(each) for each in promises.kept(name, worlds[0])]
            found.setdefault("c", {})[name] = {"budgets": budgets, "risks": risks}
            show_budgets(budgets)
            show_risks(risks)
            if data.named.wrong_alike is not None:
                refitted = [asdict(each) for each in promises.refitted(name, data.halves())]
                found["c"][name]["refitted"] = refitted
                show_refitted(refitted)
        if "d" in parts and not wide:
            rows = _topologies(name, what, worlds)
            found.setdefault("d", {})[f"{name}, {what}"] = rows
            show_topologies(rows)


def _topologies(name: str, what: str, worlds: Sequence[CompositionWorld]) -> list[dict[str, Any]]:
    told = {"name": name, "rows": what, "count": sum(len(w.test.table) for w in worlds)}
    return [{**told, **asdict(each)} for each in at_prices([ComposedPool.of(w) for w in worlds])]


def show_gates(rows: list[dict[str, Any]]) -> None:
    """Part a."""
    _table(
        ("way", "always strong", "bill", "judged by", "n", "strong", "composed, least and most",
         "points", "cost", "chosen"),
        [
            (r["way"], r["against"], r["bill"], r["rows"], r["count"], _percent(r["strong"]),
             f"{_percent(r['composed'])} – {_percent(r['most'])}", _spread(r["difference"]),
             _spread(r["share"]), r["chosen"])
            for r in rows
        ],
    )  # fmt: skip


def show_curves(rows: list[dict[str, Any]]) -> None:
    """Part b."""
    _table(
        ("set", "judged by", "n", "chosen", "routing", "cascade", "cascade routing",
         "over routing", "over cascade"),
        [
            (r["name"], r["rows"], r["count"], r["chosen"], *(
                _spread(r[key])
                for key in ("routing", "cascade", "both", "over_routing", "over_cascade")
            ))
            for r in rows
        ],
    )  # fmt: skip


def show_budgets(rows: list[dict[str, Any]]) -> None:
    """Part c, budgets."""
    _table(
        (
            "set",
            "pair",
            "deferred",
            "spent over budget, dev",
            "in standard errors",
            "train, 5 folds",
            "mean of 200 halves",
            "rows for 2 %",
            "200,000 rows within 2 %",
        ),
        [
            (
                r["name"],
                r["pair"],
                r["part"],
                _spread(r["dev"]),
                f"{r['dev'][0] / r['chance']:.1f}",
                _spread(r["crossed"]),
                _percent(r["halves"]),
                r["needed"],
                _percent(r["many"]),
            )
            for r in rows
        ],
    )


def show_risks(rows: list[dict[str, Any]]) -> None:
    """Part c, risks."""
    _table(
        ("set", "pair", "risk", "kept and wrong, dev", "mean of 200 halves", "deferred"),
        [
            (r["name"], r["pair"], r["risk"], _spread(r["dev"]), _percent(r["splits"]),
             _percent(r["deferred"]))
            for r in rows
        ],
    )  # fmt: skip


def show_refitted(rows: list[dict[str, Any]]) -> None:
    """Part c, budgets by what a router expects before the draft."""
    _table(
        ("set", "deferred", "spent over budget, 6 halves", "± standard error", "more deferred",
         "signal spread wider"),
        [
            (r["name"], r["part"], *(
                _percent(r[key]) for key in ("over", "stderr", "deferred", "spread")
            ))
            for r in rows
        ],
    )  # fmt: skip


def show_topologies(rows: list[dict[str, Any]]) -> None:
    """Part d."""
    _table(
        ("set", "judged by", "n", "weight", "best fixed", "its utility", "router of singles",
         "router of all", "without caution", "over fixed", "over singles", "picks"),
        [
            (r["name"], r["rows"], r["count"], r["weight"], r["fixed"], *(
                _spread(r[key])
                for key in ("fixed_utility", "single_utility", "router_utility", "plain_utility",
                            "over_fixed", "over_singles")
            ), ", ".join(f"{kind} {100 * share:.0f} %" for kind, share in r["shares"].items()))
            for r in rows
        ],
    )  # fmt: skip


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    lines = [head, ["---"] * len(head), *rows]
    text = "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
    sys.stdout.write(text + "\n\n")
    sys.stdout.flush()


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _spread(value: Spread) -> str:
    return f"{_percent(value[0])} [{_percent(value[1])}, {_percent(value[2])}]"


if __name__ == "__main__":
    main()
