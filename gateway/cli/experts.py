"""`pointsman experts`: the pool as the configuration has it, and whom to take for a new task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from experts.cards import Prices
from experts.weights.finetune import PREFERENCES, SFT, TuneRules, read_examples
from experts.weights.finetune import tune as tune_adapter
from gateway.cli import engines
from gateway.cli.console import out, show_json, show_table
from gateway.cli.graded import ledger_outcomes, parse_tags
from gateway.cli.options import ApiKey, AsJson, Config, FromLedger, Seed, Tags, Url
from gateway.cli.progress import stages
from gateway.cli.retrieval import retrieval
from gateway.errors import ConfigError
from gateway.settings.cards import CalledSettings
from gateway.settings.children import named_children
from gateway.settings.composed import CompositionSettings
from gateway.settings.experts import CalculatorSettings, ExpertSettings, UrlExpert
from gateway.settings.load import load_settings
from gateway.settings.local import AdapterExpert, RayExpert, VllmExpert
from routers.allocation.audition import Audition, AuditionRules
from routers.allocation.audition import audition as hold_audition
from routers.records import Floats, OutcomeTable

commands = typer.Typer(help="The experts of the pool.", no_args_is_help=True)
commands.command()(retrieval)
engines.register(commands)


@commands.command("list")
def list_(url: Url = None, key: ApiKey = None, config: Config = None, json: AsJson = False) -> None:
    """Every configured expert and where it answers; of engines that run here, how they are."""
    settings = load_settings(config)
    rows = [_row(expert) for expert in settings.experts]
    running = engines.engines_now(url, settings, key)
    if json:
        show_json([{**row, **_engine_of(running, row["expert"])} for row in rows])
        return
    columns = {"expert": "left", "kind": "left", "where": "left"}
    columns |= {"$/Mtok in": "right", "out": "right", "prices of": "left"}
    if running:
        columns |= {"state": "left", "tier": "left", "under way": "right", "waiting": "right"}
        columns |= {"woke in": "right", "load": "left"}
    shown = [
        {**row, **_price_cells(row["prices"]), **engines.standing(running.get(row["expert"]))}
        for row in rows
    ]
    cells = [[row.get(heading, "") for heading in columns] for row in shown]
    show_table("experts", columns, cells)


def _engine_of(
    running: Mapping[str, Mapping[str, Any]], expert: str
) -> dict[str, Mapping[str, Any]]:
    return {"engine": running[expert]} if expert in running else {}


def _price_cells(prices: Mapping[str, Any] | None) -> dict[str, str]:
    if prices is None:
        return {"prices of": "unknown"}
    told = {"$/Mtok in": f"{prices['input']:g}", "out": f"{prices['output']:g}"}
    return {**told, "prices of": prices["source"]}


def _prices(expert: ExpertSettings) -> Prices | None:
    """What is known before it is started: a packaged model's are measured then."""
    from gateway.pool.pool import prices_of

    if isinstance(expert, CalledSettings):
        return prices_of(expert, datetime.now(UTC))
    if isinstance(expert, CalculatorSettings):
        return Prices(0, 0, source="runs in the gateway")
    return None


def _row(expert: ExpertSettings) -> dict[str, Any]:
    if isinstance(expert, UrlExpert):
        where = ", ".join(expert.urls)
    elif isinstance(expert, VllmExpert):
        where = expert.base_url or expert.model
    elif isinstance(expert, RayExpert):
        where = f"{expert.base_url} on Ray"
    elif isinstance(expert, AdapterExpert):
        where = f"{expert.path} in {expert.engine}"
    elif isinstance(expert, CompositionSettings):
        names = dict.fromkeys(name for _, name in named_children(expert.model_dump()))
        where = f"asks {', '.join(names)}"
    else:
        where = getattr(expert, "package", "in the gateway")
    prices = _prices(expert)
    told = asdict(prices) if prices else None
    return {"expert": expert.id, "kind": expert.kind, "where": where, "prices": told}


@commands.command()
def audition(
    data: Annotated[Path | None, typer.Option(help="Outcomes: parquet, csv, jsonl.")] = None,
    ledger: FromLedger = None,
    tag: Tags = None,
    task: Annotated[str | None, typer.Option(help="Only queries of this task.")] = None,
    most: Annotated[int, typer.Option(min=1, help="Most experts to choose.")] = 3,
    doubt_weight: Annotated[float, typer.Option(min=0, help="Points a nat of doubt costs.")] = 0.1,
    seed: Seed = 0,
    json: AsJson = False,
) -> None:
    """Which experts to take for a task, from 5 to 50 graded answers of each; adapters count too.

    With a column `nll`, or answers in the ledger that `collect --logprobs` asked for, who guessed
    right counts for less.
    """
    if (data is None) == (ledger is None):
        raise ConfigError("experts audition needs one of --data FILE and --ledger URL")
    table, nll_NA = _auditioned(data, ledger, tag)
    if task is not None:
        rows = np.flatnonzero([each == task for each in table.tasks])
        table, nll_NA = table.take(rows), nll_NA[rows]
    rules = AuditionRules(most, doubt_weight)
    rng = np.random.default_rng(seed)
    held = hold_audition(table.experts, table.score_NA, nll_NA, rules=rules, rng=rng)
    if json:
        show_json(_as_json(held))
        return
    show_table(
        f"audition over {held.queries} queries",
        {
            "expert": "left",
            "chosen": "right",
            "answers it adds": "right",
            "graded": "right",
            "accuracy": "right",
            "doubt": "right",
            "chosen in resamples": "right",
        },
        [_audition_row(held, column) for column in _by_standing(held)],
    )
    names = [held.experts[column] for column in held.chosen]
    out.print(f"take {', '.join(names) or 'nobody: no answer was right'}", soft_wrap=True)


def _auditioned(
    data: Path | None, ledger: str | None, tag: list[str] | None
) -> tuple[OutcomeTable, Floats]:
    if data is None:
        read = ledger_outcomes(str(ledger), parse_tags(tag))
    else:
        # Not at the top: the other commands answer in half the time without Arrow.
        from eval.tables.sources import read_outcomes

        read = read_outcomes(data)
    return read.table, read.nll_NA


def _by_standing(held: Audition) -> list[int]:
    others = set(range(len(held.experts))) - set(held.chosen)
    return [*held.chosen, *sorted(others, key=lambda column: -held.standing_A[column])]


def _audition_row(held: Audition, column: int) -> list[str]:
    place = held.chosen.index(column) if column in held.chosen else None
    doubt = held.doubt_A[column]
    return [
        held.experts[column],
        "" if place is None else str(place + 1),
        "" if place is None else f"{held.covered[place]:.1f}",
        f"{held.answers_A[column]:.0f}",
        f"{held.accuracy_A[column]:.1%}",
        "unknown" if np.isnan(doubt) else f"{doubt:.2f}",
        f"{held.stability_A[column]:.0%}",
    ]


def _as_json(held: Audition) -> dict[str, Any]:
    experts = {
        expert: {
            "accuracy": float(held.accuracy_A[column]),
            "standing": float(held.standing_A[column]),
            "doubt": None if np.isnan(held.doubt_A[column]) else float(held.doubt_A[column]),
            "answers": int(held.answers_A[column]),
            "stability": float(held.stability_A[column]),
        }
        for column, expert in enumerate(held.experts)
    }
    chosen = [held.experts[column] for column in held.chosen]
    return {
        "queries": held.queries,
        "chosen": chosen,
        "covered": list(held.covered),
        "experts": experts,
    }


@commands.command()
def tune(
    base: Annotated[Path, typer.Option(help="Directory of a model and its tokenizer.")],
    out_dir: Annotated[Path, typer.Option("--out", help="Directory for the adapter.")],
    sft: Annotated[Path | None, typer.Option(help="Rows of `ledger export --sft`.")] = None,
    pairs: Annotated[
        Path | None, typer.Option("--preferences", help="Rows of `ledger export --preferences`.")
    ] = None,
    rank: Annotated[int, typer.Option(min=1, help="Of the adapter.")] = 8,
    learning_rate: Annotated[
        float | None, typer.Option(min=0, help="At the start; default 2e-4, of pairs 1e-5.")
    ] = None,
    epochs: Annotated[float, typer.Option(min=0, help="Times each example is seen.")] = 1.0,
    batch: Annotated[int, typer.Option(min=1, help="Examples per step.")] = 4,
    max_length: Annotated[int, typer.Option(min=1, help="Tokens of an example.")] = 1024,
    beta: Annotated[float, typer.Option(min=0.001, help="How hard pairs hold to the base.")] = 0.1,
    held_out: Annotated[float, typer.Option(min=0, max=0.9, help="Part that judges.")] = 0.1,
    seed: Seed = 0,
    json: AsJson = False,
) -> None:
    """Fine-tune a LoRA adapter on the log's best answers or on pairs; needs the extra `rl`.

    Serve it beside its base (vLLM: --enable-lora), configure it as an expert, collect answers of
    it, and let `routers admit` say what it is worth.
    """
    rules = TuneRules(rank, learning_rate, epochs, batch, max_length, beta, held_out, seed)
    if sft is not None and pairs is None:
        data, lesson = sft, SFT
    elif pairs is not None and sft is None:
        data, lesson = pairs, PREFERENCES
    else:
        raise ConfigError("experts tune needs one of --sft FILE and --preferences FILE")
    with stages() as progress:
        tuned = tune_adapter(base, read_examples(data, lesson), out_dir, rules, progress, lesson)
    if json:
        show_json({**asdict(tuned), "adapter": str(tuned.adapter)})
        return
    out.print(
        f"{tuned.adapter}: {tuned.examples} examples, loss {tuned.losses[0]:.3f} to "
        f"{tuned.losses[-1]:.3f}, licences {', '.join(tuned.licences)}",
        soft_wrap=True,
    )
    if held := tuned.held_out:
        told = f"held out: {held.examples}, loss {held.loss_before:.3f} to {held.loss:.3f}"
        if held.margin is not None:
            told += f", margin {held.margin:+.3f}, right way {held.right_way:.0%}"
        out.print(told, soft_wrap=True)
