"""`pointsman train`: a router from a file of outcomes or from the ledger."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eval.tables.sources import read_outcomes
from gateway.cli.console import out, say, show_json
from gateway.cli.endpoint import some_gateway
from gateway.cli.evaluate import Form, form_of
from gateway.cli.graded import ledger_table, parse_tags
from gateway.cli.options import ApiKey, AsJson, Config, FromLedger, Promote, Seed, Tags, Url
from gateway.cli.progress import stages
from gateway.cli.vectors import Folder, vector_store
from gateway.cli.writing import WritingModel
from gateway.errors import ConfigError
from gateway.routing.router_store import RouterStore
from gateway.settings.cards import CardSettings
from gateway.settings.load import load_settings
from gateway.settings.root import Settings
from routers.fitting.fit import fit_router
from routers.fitting.recipe import Recipe
from routers.records import OutcomeTable
from routers.registry import DEFAULT_ESTIMATOR
from routers.storage.artifacts import save_router


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(train)


def train(
    router: Annotated[str, typer.Option(help="What the router is called.")] = "default",
    data: Annotated[Path | None, typer.Option(help="Outcome table: parquet, csv, jsonl.")] = None,
    ledger: FromLedger = None,
    tag: Tags = None,
    estimator: Annotated[
        str, typer.Option(help="knn, ridge, ... or, with an encoder, knn+static.")
    ] = DEFAULT_ESTIMATOR,
    epsilon: Annotated[float, typer.Option(min=0, max=1, help="Share of exploration.")] = 0.02,
    seed: Seed = 0,
    out_dir: Annotated[Path | None, typer.Option("--out", help="Write here instead.")] = None,
    promote: Promote = False,
    config: Config = None,
    form: Form = "auto",
    vectors: Folder = None,
    instructor: Annotated[
        str | None,
        typer.Option(help="With `instruction`: the model that says what requests ask for."),
    ] = None,
    url: Url = None,
    key: ApiKey = None,
    json: AsJson = False,
) -> None:
    """Fit a router and publish it as a version; `routers promote` makes it serve."""
    if (data is None) == (ledger is None):
        raise ConfigError("train needs exactly one of --data FILE and --ledger URL")
    if promote and out_dir is not None:
        raise ConfigError("--promote and --out exclude each other: only published versions serve")
    settings = load_settings(config)
    store = RouterStore(settings.data_dir / "routers")
    # A name that can't be one is told before the work.
    store.home(router)
    table = (
        read_outcomes(data, form_of(form)).table
        if data
        else ledger_table(str(ledger), parse_tags(tag))
    )
    say(f"fitting {estimator!r} on {len(table)} queries and {len(table.experts)} experts")
    instructions = _instructions(instructor, estimator, table, settings, url, key)
    with stages() as progress:
        fitted = fit_router(
            router,
            estimator,
            table,
            seed=seed,
            epsilon=epsilon,
            descriptions=_descriptions(settings),
            instructions=instructions,
            store=vector_store(vectors, progress),
        )
    version = save_router(fitted, out_dir) if out_dir else store.publish(fitted)
    if promote:
        store.promote(router, version)
    about = {"router": router, "version": version, "queries": len(table), "promoted": promote}
    if json:
        show_json(about)
    else:
        out.print(f"{router}@{version}{' now serves' if promote else ''}")


def _instructions(
    model: str | None,
    estimator: str,
    table: OutcomeTable,
    settings: Settings,
    url: str | None,
    key: str | None,
) -> dict[str, str] | None:
    if model is None:
        return None
    if Recipe.read(estimator).estimator != "instruction":
        raise ConfigError("--instructor goes with --estimator instruction only")
    with some_gateway(url, settings) as base, stages() as progress:
        written = WritingModel(base, model, key, progress).instructions(table.prompts)
    say(f"{model} described {len(written)} templates of requests")
    return written


def _descriptions(settings: Settings) -> dict[str, str]:
    described = [one for one in settings.experts if isinstance(one, CardSettings)]
    return {one.id: one.description for one in described}
