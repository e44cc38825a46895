"""`pointsman evaluate`: routers trained on one table and judged on another."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from eval.compare import compare
from eval.compositions.drafts import read_drafts
from eval.compositions.topologies import ComposedPool, at_prices
from eval.compositions.world import make_world
from eval.tables.foreign import FORMS
from eval.tables.pool import make_pool
from eval.tables.prices import fill_costs, read_prices
from eval.tables.splits import TrainTest, read_train_test
from experts.cards import Prices
from gateway.cli.crews import crew_for
from gateway.cli.options import AsJson, Ray, Seed
from gateway.cli.progress import stages
from gateway.cli.table import show_comparison
from gateway.cli.vectors import Folder, vector_store
from gateway.errors import ConfigError
from routers.fitting.recipe import DEFAULT, Recipe
from routers.registry import estimator_class, estimator_names

Form = Annotated[
    str,
    typer.Option("--format", help=f"Of the tables: auto, or {', '.join(FORMS)}."),
]

Compositions = Annotated[
    str | None,
    typer.Option(
        help="Add cascades, votes and best-ofs of these experts (A,B,C or all), worked out from "
        "their answers."
    ),
]
WrongAlike = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        help="With --compositions, where no answers are recorded: in which part of cases two "
        "wrong ones say the same.",
    ),
]

_FITS = "finished-fits"
"""Beside the report until it is written, so that what was killed goes on where it was."""

_ENCODING = 0.1
"""Of all progress, the part that is shown for encoding."""


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
    seed: Seed = 0,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Routers trained at a time; one per core by default.")
    ] = None,
    form: Form = "auto",
    compare_: Annotated[
        list[str] | None,
        typer.Option("--compare", help="A,B: test these two against each other; repeatable."),
    ] = None,
    compositions: Compositions = None,
    wrong_alike: WrongAlike = None,
    vectors: Folder = None,
    ray: Ray = None,
    json: AsJson = False,
) -> None:
    """Quality against cost of learned routers beside single experts, chance and the oracle."""
    # Drawing takes most of a second to load, which no other command should wait for.
    from eval.report.report import write_report

    tables = read_train_test(train, test, seed=seed, form=form_of(form))
    names, left_out = learned_routers() if routers == "all" else (routers.split(","), [])
    against = [pair_of(pair) for pair in compare_ or ()]
    names += [name for pair in against for name in pair if name not in names]
    listed = read_prices(prices) if prices else {}
    # Told now, not after everything was trained, if there can be no such folder.
    report.mkdir(parents=True, exist_ok=True)
    fits = report / _FITS
    with crew_for(ray, jobs) as crew, stages() as progress:
        offer = None
        if compositions:
            progress("compositions", 0.0)
            offer = _offer(tables, (train, test), compositions, listed, names[0], wrong_alike, seed)
            tables = offer.as_tables(tables)
        comparison = compare(
            tables.train,
            tables.test,
            names,
            prices=listed,
            seed=seed,
            data=tables.data,
            notes=(*tables.notes, *left_out),
            progress=progress,
            crew=crew,
            fits=fits,
            against=against,
            store=vector_store(vectors, progress, _ENCODING),
        )
        if offer:
            found = at_prices([offer], estimator=comparison.recommended, seed=seed)
            comparison = replace(comparison, at_prices=tuple(found))
    paths = write_report(comparison, report, title=f"Routers on {test.stem}")
    shutil.rmtree(fits, ignore_errors=True)
    show_comparison(comparison, paths, json)


def _offer(
    tables: TrainTest,
    paths: tuple[Path, Path],
    experts: str,
    prices: Mapping[str, Prices],
    estimator: str,
    wrong_alike: float | None,
    seed: int,
) -> ComposedPool:
    """The compositions that are worth offering, of all experts or of those named."""
    train, test = (fill_costs(table, prices) for table in (tables.train, tables.test))
    wanted = experts.split(",")
    if experts == "all":
        wanted = list(make_pool(train, test, prices).train.experts)
    sides = [(table, read_drafts(p, table)) for p, table in zip(paths, (train, test), strict=True)]
    world = make_world(
        sides[0], sides[1], wanted, seed=seed, estimator=estimator, wrong_alike=wrong_alike
    )
    return ComposedPool.of(world)


def learned_routers() -> tuple[list[str], list[str]]:
    """What `all` stands for, and a note on those that it leaves out because they take too long.

    The default recipe and every estimator, through the default encoder. The prior, which goes by
    the cards alone, learns nothing and takes no part.
    """
    shipped = Recipe.read(DEFAULT)
    learned = [name for name in estimator_names() if name != "prior"]
    names = [name for name in learned if Recipe.read(name) != shipped]
    slow = [name for name in names if getattr(estimator_class(name), "slow", False)]
    notes = []
    if slow:
        verb = "takes" if len(slow) == 1 else "take"
        notes.append(
            f"{', '.join(slow)} {verb} long to train and no part in 'all'; naming a router runs it."
        )
    return [DEFAULT, *(name for name in names if name not in slow)], notes


def form_of(name: str) -> str | None:
    """The format to read a table as; None to recognise it."""
    return None if name == "auto" else name


def pair_of(text: str) -> tuple[str, str]:
    """The two routers of `A,B`."""
    first, comma, second = text.partition(",")
    if not (first and comma and second) or "," in second or first == second:
        raise ConfigError(f"--compare {text!r} must name two routers, like knn,ridge")
    return first, second
