"""`pointsman collect`: every expert answers every prompt; graded, booked, written to a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eval.sources import write_outcomes
from gateway.cli.console import say
from gateway.cli.endpoint import some_gateway
from gateway.cli.gather import expert_ids, gather
from gateway.cli.options import ApiKey, Config, Url
from gateway.collecting import read_prompts
from gateway.errors import ConfigError
from gateway.ids import new_id
from gateway.ledger.database import opened
from gateway.ledger.export import scored_pairs
from gateway.settings.load import load_settings
from gateway.settings.root import Settings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(collect)


def collect(
    prompts: Annotated[Path, typer.Option(help="JSONL: query_id, prompt, task?, split?, check?.")],
    experts: Annotated[str, typer.Option(help="Ids with commas between, or all.")] = "all",
    out: Annotated[Path | None, typer.Option(help=".parquet, .csv or .jsonl file.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer.")] = 256,
    collection: Annotated[
        str | None, typer.Option(help="Name; what it has scored already is not asked again.")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests at a time per expert.")] = 2,
    logprobs: Annotated[
        bool, typer.Option("--logprobs", help="Note each answer's mean log-probability, too.")
    ] = False,
    url: Url = None,
    key: ApiKey = None,
    config: Config = None,
) -> None:
    """Ask every expert every prompt through the endpoint; the ledger books all of it."""
    asked = read_prompts(prompts)
    settings = load_settings(config)
    tags = {"collection": collection or new_id("col")}
    with some_gateway(url, settings) as base:
        models = expert_ids(base, key) if experts == "all" else experts.split(",")
        gathered = gather(
            base,
            asked,
            models,
            key=key,
            max_tokens=max_tokens,
            concurrency=concurrency,
            tags=tags,
            known=_known(settings, tags) if collection else frozenset(),
            logprobs=logprobs,
        )
    say(f"{len(gathered.rows)} answers booked under the tag collection={tags['collection']}")
    if gathered.kept:
        say(
            f"{gathered.kept} were booked there before and not asked again; all of them: "
            f"pointsman ledger export --tag collection={collection} --out FILE"
        )
    if out is not None:
        say(f"written to {write_outcomes(gathered.rows, out)}")
    if gathered.failures:
        raise ConfigError(f"{len(gathered.failures)} calls failed; first: {gathered.failures[0]}")


def _known(settings: Settings, tags: dict[str, str]) -> frozenset[tuple[str, str]]:
    with opened(settings.ledger_url) as engine:
        return scored_pairs(engine, tags)
