"""Every router on every table of outcomes: one leaderboard, kept and shown in the docs.

`python benchmarks/routers/leaderboard.py` runs all; `--only mmlu_pro,bfcl` some tables, the others
stay as they are kept; `--routers default,knn` some routers; `--render` only writes the page anew.
Costs that were not recorded follow from the tokens and `prices.csv` beside the tables.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from benchmarks.routers.board import ROOT, keep, of_data, read
from eval.compare import compare
from eval.crew import LocalCrew
from eval.tables.prices import read_prices
from eval.tables.splits import read_train_test
from gateway.cli.evaluate import learned_routers

DATA = ROOT.parent / "shared/data"


def main() -> None:
    """Run what is asked for, one table after another; each is kept as soon as it is done."""
    asked = _arguments()
    if asked.render:
        keep(read())
        return
    files = sorted(asked.data.glob("*.parquet"))
    wanted = set(asked.only.split(",")) if asked.only else {file.stem for file in files}
    for name in sorted(wanted - {file.stem for file in files}):
        raise SystemExit(f"there is no {name}.parquet in {asked.data}")
    for file in files:
        if file.stem in wanted:
            _measure(file, asked)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of outcome tables")
    parser.add_argument("--only", help="names of tables, with commas between")
    parser.add_argument("--routers", help="recipes, with commas between; all by default")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--render", action="store_true", help="write the page from what is kept")
    return parser.parse_args()


def _measure(file: Path, asked: argparse.Namespace) -> None:
    prices = file.parent / "prices.csv"
    tables = read_train_test(file, file)
    names = asked.routers.split(",") if asked.routers else learned_routers()[0]
    found = compare(
        tables.train,
        tables.test,
        names,
        prices=read_prices(prices) if prices.exists() else None,
        data=tables.data,
        crew=LocalCrew(asked.jobs),
        progress=lambda what, done: _say(f"{file.stem} {done:4.0%} {what}"),
    )
    words = f"python benchmarks/routers/leaderboard.py --only {file.stem}"
    command = f"{words} --routers {asked.routers}" if asked.routers else words
    keep({**read(), file.stem: of_data(found, command)})
    _say(f"{file.stem} done in {sum(found.seconds.values()):.0f} s")


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    main()
