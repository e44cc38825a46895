"""Who is awake, by a planner and by simpler rules, on the same requests.

`python -m benchmarks.residency.run` draws requests for twelve experts of which four fit, by Zipf,
by Zipf with favourites that change, and in bursts, at several rates, and prints for each way of
deciding how often experts were woken and how long requests waited, as means over seeds. With
`--data FILE` every query of that table of outcomes asks the smallest expert that answered it right,
and tasks come in bursts; `--sizes CSV` says how large the experts are. A second table bounds what
any rule could save.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.residency.grouped import grouped_faults
from benchmarks.residency.simulate import Clairvoyant, Manager, OnDemand, Planned, Request, simulate
from eval.fleet.footprints import read_footprints
from eval.tables.sources import read_outcomes
from experts.residency.paging import Victim, farthest, faults, least_recent
from experts.residency.planner import Footprint, ResidencyPlanner
from routers.records import Floats

_EXPERTS, _ROOM = 12, 4
_NEVER, _APART = 10**9, 5
_DRAWN = (
    # How likely the same expert is asked again, and after how many requests others are favourites.
    ("Zipf", 0.0, _NEVER),
    ("Zipf, others every 500", 0.0, 500),
    ("Zipf, bursts of five", 0.8, _NEVER),
)
_BOUNDS = ("LRU", "told the shares", "look-ahead 4", "Belady", "in groups of 16", "of 32")


def main() -> None:
    """Parse the command line, simulate, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, help="an outcome table")
    parser.add_argument("--sizes", type=Path, help="CSV with model and total_params_b")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--rates", default="0.5,1,2", help="requests per second")
    parser.add_argument("--wake-s", type=float, default=8.0, help="seconds that waking takes")
    parser.add_argument("--seeds", type=int, default=5, help="the first so many")
    args = parser.parse_args()
    rates = [float(rate) for rate in args.rates.split(",")]
    table = Table("requests", "per s", "decided by", "woken", "mean wait, s", "p95", "longest")
    paged = Table("requests", *_BOUNDS, title="in order, faults")
    rows: dict[str, list[list[str]]] = {}
    for seed in range(args.seeds):
        for name, row in named_rows(args, np.random.default_rng(seed)):
            rows.setdefault(name, []).append(row)
    for name, drawn in rows.items():
        table.add_section()
        for rate in rates:
            for told, mean in means(drawn, rate, args.wake_s).items():
                shown = (f"{wait:.1f}" for wait in mean[1:])
                table.add_row(name, f"{rate:g}", told, f"{mean[0]:.0f}", *shown)
        paged.add_row(name, *(f"{count}" for count in in_order(drawn[0])))
    Console(width=110).print(table, paged)


def means(drawn: Sequence[Sequence[str]], rate: float, wake_s: float) -> dict[str, Floats]:
    """Experts woken, mean wait, its 95th percentile and the longest, by who decides."""
    found: dict[str, list[tuple[float, ...]]] = {}
    for seed, row in enumerate(drawn):
        requests = timed(row, rate, np.random.default_rng(seed))
        footprints = {expert: Footprint(1.0, wake_s) for expert in sorted(set(row))}
        for told, manager in managers(footprints, requests).items():
            ran = simulate(requests, footprints, manager)
            waits = (float(np.mean(ran.waits_s)), ran.wait_s(0.95), max(ran.waits_s))
            found.setdefault(told, []).append((ran.switches, *waits))
    return {told: np.mean(each, axis=0) for told, each in found.items()}


def managers(
    footprints: Mapping[str, Footprint], requests: Sequence[Request]
) -> dict[str, Manager]:
    """The ways of deciding, by name."""
    return {
        "FCFS, LRU": OnDemand(footprints, _ROOM, in_turn=True),
        "LRU on demand": OnDemand(footprints, _ROOM, in_turn=False),
        "planner": Planned(ResidencyPlanner(footprints, _ROOM)),
        "told the future": Planned(Clairvoyant(footprints, _ROOM, requests)),
    }


def in_order(row: Sequence[str]) -> tuple[int, ...]:
    """Wakes where requests are answered as they come, and in groups of any order, see `_BOUNDS`."""
    counts = Counter(row)
    rules: tuple[Victim, ...] = (
        least_recent(row),
        lambda _, awake: min(awake, key=lambda name: (counts[name], name)),
        farthest(row, 4),
        farthest(row),
    )
    found = [faults(row, _ROOM, rule) for rule in rules]
    return (*found, *(grouped_faults(row, _ROOM, group) for group in (16, 32)))


def named_rows(
    args: argparse.Namespace, rng: np.random.Generator
) -> Iterator[tuple[str, list[str]]]:
    """Rows of experts asked, by what makes them."""
    if args.data is not None:
        yield f"{args.data.stem}, bursts of a task", from_outcomes(args, rng)
        return
    share_A = 1.0 / np.arange(1, _EXPERTS + 1)
    share_A /= share_A.sum()
    names = [f"expert-{place:02d}" for place in range(_EXPERTS)]
    for name, stay, turn in _DRAWN:
        row: list[str] = []
        for count in range(args.requests):
            again = bool(row) and rng.random() < stay
            place = int(rng.choice(_EXPERTS, p=share_A)) + (count // turn) * _APART
            row.append(row[-1] if again else names[place % _EXPERTS])
        yield name, row


def from_outcomes(args: argparse.Namespace, rng: np.random.Generator) -> list[str]:
    """The smallest of twelve experts that answered each query right; tasks by Zipf, in bursts."""
    table = read_outcomes(args.data).table
    sizes = read_footprints(args.sizes, "total_params_b")
    listed = [column for column, name in enumerate(table.experts) if name in sizes]
    mean_A = np.nanmean(table.score_NA[:, listed], axis=0)
    kept = [listed[place] for place in np.argsort(-mean_A)[:_EXPERTS]]
    kept.sort(key=lambda column: (sizes[table.experts[column]], table.experts[column]))
    right_NA = table.score_NA[:, kept] >= 1.0
    chosen_N = np.where(right_NA.any(axis=1), right_NA.argmax(axis=1), len(kept) - 1)
    tasks = sorted({task or "" for task in table.tasks})
    by_task = [np.flatnonzero([task == each for task in table.tasks]) for each in tasks]
    share_C = 1.0 / np.arange(1, len(tasks) + 1)
    share_C /= share_C.sum()
    row: list[str] = []
    place = 0
    while len(row) < args.requests:
        if not row or rng.random() > 0.8:
            place = int(rng.choice(len(tasks), p=share_C))
        query = int(rng.choice(by_task[place]))
        row.append(table.experts[kept[chosen_N[query]]])
    return row


def timed(row: Sequence[str], rate: float, rng: np.random.Generator) -> list[Request]:
    """The row as requests that come at random at this rate and take two seconds each on average."""
    at_N = np.cumsum(rng.exponential(1.0 / rate, len(row)))
    service_N = rng.gamma(4.0, 0.5, len(row))
    return [
        Request(float(at), name, float(service))
        for at, name, service in zip(at_N, row, service_N, strict=True)
    ]


if __name__ == "__main__":
    main()
