"""Whether the default router keeps what it promises on tables of real outcomes.

`python -m benchmarks.routers.default --data FOLDER` learns from the `train` split of every table
there, judges by `dev`, and prints each target with what was reached. Where a table has neither
costs nor tokens, an answer of 200 tokens at the price list's price stands in. `--small ROWS` learns
from so many queries only and judges by all others.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from eval.metrics.calibration import calibration
from eval.metrics.curves import aiq
from eval.metrics.pgr import pgr_curve
from eval.replay.baselines import single, singles
from eval.replay.operating import sweep
from eval.replay.replay import COST_WEIGHTS, ReplayedTraffic, measure
from eval.tables.pool import make_pool
from eval.tables.prices import read_prices
from eval.tables.sources import Outcomes, read_outcomes
from experts.cards import Prices
from routers.estimators.folds import group_folds, others
from routers.fitting.fit import fit_router
from routers.records import Floats, OutcomeTable
from routers.registry import DEFAULT_ENCODER, DEFAULT_ESTIMATOR, make_estimator

# What plain TF-IDF routers gained over the best single expert on other splits of the same tables.
TEXT_GAIN = {"mmlu_pro": 0.010, "routerdc7b": 0.027, "llmrouter": 0.033}
PAIRS = {"mmlu/": 0.67, "gsm8k": 0.62}
_SURE = ("routerdc7b", "llmrouter")
_ANSWER_TOKENS = 200.0
_MOST_LOST = 0.01
_FOLDS = 5


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True, help="folder of outcome tables")
    parser.add_argument("--files", default="", help="names of some of them, with commas between")
    parser.add_argument("--small", type=int, default=0, help="rows to learn from")
    parser.add_argument("--pairs", action="store_true", help="five-fold APGR of two models, too")
    parser.add_argument("--estimators", default=f"{DEFAULT_ESTIMATOR},knn100")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    prices = read_prices(args.data / "prices.csv")
    columns = ("table", "router", "quality", "best single", "gain, se", "AIQ", "ECE", "kept")
    table = Table(*columns, title=f"{DEFAULT_ESTIMATOR}+{DEFAULT_ENCODER}, seed {args.seed}")
    with threadpool_limits(limits=1):
        for path in sorted(args.data.glob("*.parquet")):
            if not args.files or path.stem in args.files.split(","):
                for row in judged(read_outcomes(path), prices, args):
                    table.add_row(path.stem, *row)
                if args.pairs and path.stem == "routellm":
                    for row in pairs(read_outcomes(path).table, args.seed):
                        table.add_row(path.stem, *row)
    Console(width=120).print(table)


def judged(
    outcomes: Outcomes, prices: dict[str, Prices], args: argparse.Namespace
) -> Iterator[tuple[str, ...]]:
    """A row of the printed table per router."""
    train, test = sides(outcomes, args.small, args.seed)
    pool = make_pool(priced(train, prices), priced(test, prices), prices)
    train, test = pool.train, pool.test
    best = singles(train).best
    alone = measure(test, single(test, best))
    for name in args.estimators.split(","):
        router = fit_router(name, "prior" if name == "knn100" else name, train, seed=args.seed)
        if name == "knn100":
            plain = make_estimator("knn", k=100)
            features = router.featurizer.transform(train.prompts)
            rng = np.random.default_rng(args.seed)
            router = replace(router, estimator=plain.fit(features, train, rng))
        found = sweep(router, test, pool.prices, COST_WEIGHTS if pool.costs_known else (0.0,))
        first = found.traffic[0]
        both_N = (first.quality_weight_N > 0) & (alone.quality_weight_N > 0)
        gain, stderr = paired((first.quality_N - alone.quality_N)[both_N], test, both_N)
        told = calibration(found.estimates.quality_NA, test.score_NA)
        yield (
            name,
            f"{100 * first.quality:.2f}",
            f"{100 * alone.quality:.2f}",
            f"{100 * gain:+.2f} ({stderr and gain / stderr:+.1f})",
            area(found.traffic, test),
            f"{told.ece:.3f}" if told else "",
            kept(outcomes.path.stem, gain, stderr) if not args.small else "",
        )


def sides(outcomes: Outcomes, small: int, seed: int) -> tuple[OutcomeTable, OutcomeTable]:
    """What to learn from and what to judge by; no group is on both sides."""
    table = outcomes.table
    if small:
        count = max(2, round(len(table) / small))
        fold = group_folds(table.groups, count, np.random.default_rng(seed))[0]
        return table.take(fold), table.take(others(fold, len(table)))
    split_N = np.array(outcomes.splits)
    return (
        table.take(np.flatnonzero(split_N == "train")),
        table.take(np.flatnonzero(split_N == "dev")),
    )


def priced(table: OutcomeTable, prices: dict[str, Prices]) -> OutcomeTable:
    """`table`; where it knows no answer's tokens at all, each is taken to have had 200."""
    if not np.isnan(table.output_tokens_NA).all():
        return table
    known_A = np.array([expert in prices for expert in table.experts])
    asked_NA = ~np.isnan(table.score_NA) & known_A
    return replace(table, output_tokens_NA=np.where(asked_NA, _ANSWER_TOKENS, np.nan))


def paired(
    gain_N: Floats, test: OutcomeTable, both_N: npt.NDArray[np.bool_]
) -> tuple[float, float]:
    """Mean gain and its standard error, clustered by group."""
    _, group_N = np.unique(np.array(test.groups)[both_N], return_inverse=True)
    sums = np.bincount(group_N, gain_N - gain_N.mean())
    return float(gain_N.mean()), float(np.sqrt((sums**2).sum()) / len(gain_N))


def area(points: Sequence[ReplayedTraffic], test: OutcomeTable) -> str:
    """AIQ in per cent; nothing where costs are unknown or all the same."""
    alone = [measure(test, single(test, column)) for column in range(len(test.experts))]
    cost_A = np.array([each.cost_usd for each in alone])
    known_A = cost_A[~np.isnan(cost_A)]
    low, high = known_A.min(initial=np.inf), known_A.max(initial=-np.inf)
    if not high > low:
        return ""
    cheapest = alone[int(np.nanargmin(cost_A))]
    cost = np.array([*(each.cost_usd for each in points), cheapest.cost_usd])
    quality = np.array([*(each.quality for each in points), cheapest.quality])
    return f"{100 * aiq(cost, quality, float(low), float(high)):.2f}"


def kept(name: str, gain: float, stderr: float) -> str:
    """Which promises were kept, in words."""
    promises = {"not 1 point worse than best single": gain >= -_MOST_LOST}
    if name in _SURE:
        promises["better by 2 se"] = gain > 2 * stderr
    if name in TEXT_GAIN:
        promises[f"gains {TEXT_GAIN[name]:.3f}, 1 se to spare"] = gain + stderr >= TEXT_GAIN[name]
    return ", ".join(f"{'yes' if holds else 'NO'}: {what}" for what, holds in promises.items())


def pairs(table: OutcomeTable, seed: int) -> Iterator[tuple[str, ...]]:
    """Five-fold APGR of the default estimator, calibrated, on the tasks of each beginning."""
    for begins, least in PAIRS.items():
        rows = np.flatnonzero([(task or "").startswith(begins) for task in table.tasks])
        part = table.take(rows)
        found = apgr(part, seed)
        promise = f"{'yes' if found >= least else 'NO'}: APGR at least {least}"
        yield DEFAULT_ESTIMATOR, f"{begins} APGR {found:.3f}", "", "", "", "", promise


def apgr(table: OutcomeTable, seed: int) -> float:
    """Mean over folds of the gap recovered between the two experts."""
    found = []
    for fold in group_folds(table.groups, _FOLDS, np.random.default_rng(seed)):
        known = others(fold, len(table))
        router = fit_router("pair", DEFAULT_ESTIMATOR, table.take(known), seed=seed)
        test = table.take(fold)
        quality_NA = router.estimate(test.prompts).quality_NA
        strong = singles(table.take(known)).best
        weak = 1 - strong
        advantage_N = quality_NA[:, strong] - quality_NA[:, weak]
        curve = pgr_curve(advantage_N, test.score_NA[:, weak], test.score_NA[:, strong])
        if curve is not None:
            found.append(curve.apgr)
    return float(np.mean(found))


if __name__ == "__main__":
    main()
