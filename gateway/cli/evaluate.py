"""`pointsman evaluate`: routers trained on one table and judged on another."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from eval.compare import compare
from eval.prices import read_prices
from eval.splits import read_train_test
from gateway.cli.progress import stages
from gateway.cli.routers import AsJson
from gateway.cli.table import show_comparison
from routers.registry import estimator_names


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(evaluate)


def evaluate(
    train: Annotated[Path, typer.Option(help="Outcome table to learn from.")],
    test: Annotated[Path, typer.Option(help="Outcome table to judge by; may be the same file.")],
    routers: Annotated[
        str, typer.Option(help="E.g. knn,ridge+static (estimator+encoder), or all.")
    ] = "all",
    report: Annotated[Path, typer.Option(help="Folder for the report.")] = Path("out/evaluate"),
    prices: Annotated[Path | None, typer.Option(help="CSV of prices per model.")] = None,
    seed: Annotated[int, typer.Option(help="Source of all randomness.")] = 0,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Routers trained at a time; all cores by default.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Quality against cost of learned routers beside single experts, chance and the oracle."""
    # Drawing takes most of a second to load, which no other command should wait for.
    from eval.report import write_report

    tables = read_train_test(train, test, seed=seed)
    names = learned_estimators() if routers == "all" else routers.split(",")
    with stages() as progress:
        comparison = compare(
            tables.train,
            tables.test,
            names,
            prices=read_prices(prices) if prices else None,
            seed=seed,
            data=tables.data,
            notes=tables.notes,
            progress=progress,
            jobs=jobs or os.cpu_count() or 1,
        )
    paths = write_report(comparison, report, title=f"Routers on {test.stem}")
    show_comparison(comparison, paths, json)


def learned_estimators() -> list[str]:
    """Every estimator that learns; the prior, which goes by the cards alone, does not."""
    return [name for name in estimator_names() if name != "prior"]
