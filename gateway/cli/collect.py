"""`pointsman collect`: every expert answers every prompt; graded, booked, written to a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Annotated

import anyio
import typer

from eval.ray_crew import RayCrew
from eval.tables.sources import check_target, write_outcomes
from gateway.cli.console import say
from gateway.cli.endpoint import some_gateway
from gateway.cli.gather import Over, expert_ids, gather
from gateway.cli.options import ApiKey, Config, Ray, Url
from gateway.collection.collecting import Collecting, Collector, Pair, Prompt, read_prompts
from gateway.errors import ConfigError
from gateway.ids import new_id
from gateway.ledger.database import opened
from gateway.ledger.export import booked_answers
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
        str | None, typer.Option(help="Name; what it holds already is not asked again.")
    ] = None,
    concurrency: Annotated[
        int, typer.Option(min=1, help="Requests at a time per expert; with --ray, per worker.")
    ] = 2,
    logprobs: Annotated[
        bool, typer.Option("--logprobs", help="Note each answer's mean log-probability, too.")
    ] = False,
    url: Url = None,
    key: ApiKey = None,
    ray: Ray = None,
    config: Config = None,
) -> None:
    """Ask every expert every prompt through the endpoint; the ledger books all of it."""
    if ray is not None and url is None:
        raise ConfigError("--ray needs --url: where the cluster's workers find the gateway")
    asked = read_prompts(prompts)
    if out is not None:
        # Told now, not after everything was paid for.
        check_target(out)
    settings = load_settings(config)
    tags = {"collection": collection or new_id("col")}
    if collection is None:
        say(f"to go on after a stop: --collection {tags['collection']}")
    workers = nullcontext() if ray is None else RayCrew(ray)
    with workers as crew, some_gateway(url, settings) as base:
        how = Collecting(base, key, max_tokens, concurrency, tags, logprobs)
        booked = partial(_booked, settings, tags, asked, Collector(how))
        models = expert_ids(base, key) if experts == "all" else experts.split(",")
        gathered = gather(
            how,
            asked,
            models,
            known=booked() if collection else frozenset(),
            over=Over(crew, booked) if crew else None,
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


def _booked(
    settings: Settings, tags: Mapping[str, str], prompts: Sequence[Prompt], collector: Collector
) -> frozenset[Pair]:
    """What needs not be asked again."""
    with opened(settings.ledger_url) as engine:
        answers = booked_answers(engine, tags)
    return anyio.run(collector.settle, prompts, answers)
