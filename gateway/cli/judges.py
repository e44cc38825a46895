"""`pointsman judges`: what their scores are worth, learned from preferences and freed of length."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.console import out, show_json
from gateway.cli.options import AsJson, Config, LedgerUrl, Seed
from gateway.errors import ConfigError
from gateway.ledger.database import existing
from gateway.ledger.judged import book, opinions, wins
from gateway.outcomes.questions import gate_file
from gateway.settings.load import load_settings
from gateway.settings.outcomes import JudgeSettings
from gateway.settings.root import Settings
from routers.registry import make_encoder

if TYPE_CHECKING:
    from gateway.outcomes.rescoring import Rescored

commands = typer.Typer(help="Judges and what their scores are worth.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="The judge's name in the configuration.")]


@commands.command()
def fit(
    name: Name,
    pairs: Annotated[
        Path | None, typer.Option(help="Preferences, .jsonl; else the ledger's.")
    ] = None,
    ledger: LedgerUrl = None,
    preferred: Annotated[str, typer.Option(help="Objective of the preferences.")] = "preferred",
    encoder: Annotated[str, typer.Option(help="What sees prompts: tfidf, hashing, …")] = "tfidf",
    seed: Seed = 0,
    config: Config = None,
    json: AsJson = False,
) -> None:
    """Learn from preferences how much each objective of a judge counts for which prompts."""
    # What fits takes a moment to load.
    from eval.judging.fitted import FittedGate, tried
    from eval.judging.pair_files import read_pairs
    from gateway.outcomes.rescoring import pairs_of

    settings = load_settings(config)
    judge = _judge(settings, name)
    if not judge.objectives:
        raise ConfigError(f"judges: {name} has no `objectives` that a gate could weigh")
    if pairs is not None:
        found = read_pairs(pairs)
    else:
        with existing(ledger or settings.ledger_url) as engine:
            said = opinions(engine, f"judge:{name}")
            found = pairs_of(said, wins(engine, preferred), tuple(judge.objectives))
    if set(found.objectives) != set(judge.objectives):
        wanted, given = ", ".join(sorted(judge.objectives)), ", ".join(found.objectives)
        raise ConfigError(f"the preferences score {given}; judge {name} scores {wanted}")
    report = tried(found, make_encoder(encoder), seed)
    gate = FittedGate.fit(found, make_encoder(encoder), seed)
    file = _gate_file(settings, name)
    gate.save(file)
    if json:
        show_json({"judge": name, "path": str(file), **asdict(report)})
        return
    out.print(
        f"{report.pairs:,} preferences; of pairs not learned from the gate orders "
        f"{report.gate:.1%} as they say, equal weights {report.equal:.1%}, "
        f"{report.best} alone {report.best_single:.1%}",
        soft_wrap=True,
    )
    for objective, weight in report.length_weight.items():
        if weight:
            out.print(f"{objective}: {weight:.2g} taken out per token of length")
    if report.gate <= max(report.equal, report.best_single):
        out.print("[bold]It is no better than that: more preferences, or other objectives.[/]")
    out.print(f"saved in {file}; a gateway uses it from its next reload on", soft_wrap=True)


@commands.command()
def rescore(
    name: Name, ledger: LedgerUrl = None, config: Config = None, json: AsJson = False
) -> None:
    """Book what a judge's logged scores are worth: free of length, and all objectives as one.

    What it said stays in the book; the new scores count from now on. Who scored after the judge
    keeps the last word. Doing it again books only what has changed.
    """
    from eval.judging.fitted import FittedGate
    from gateway.outcomes.rescoring import by_gate, without_length

    settings = load_settings(config)
    judge = _judge(settings, name)
    if judge.how == "pair":
        raise ConfigError(f"judges: {name} compares pairs, whose wins owe nothing to be taken out")
    source = f"judge:{name}"
    with existing(ledger or settings.ledger_url) as engine:
        said = opinions(engine, source)
        if judge.objectives:
            gate = FittedGate.load(_gate_file(settings, name))
            found = by_gate(said, gate, source, judge.scores)
        else:
            found = without_length(said, source, judge.scores)
        booked = book(engine, found.rows)
    about = {
        "judge": name,
        "objective": judge.scores,
        "booked": booked,
        "unchanged": found.unchanged,
        "scored_later_by_others": found.others,
        "unknown": found.unknown,
        "length_weight": dict(found.length_weight),
    }
    if json:
        show_json(about)
    else:
        _show(name, judge, found, booked)


def _show(name: str, judge: JudgeSettings, found: Rescored, booked: int) -> None:
    out.print(
        f"{name}: {booked:,} scores of {judge.scores} booked anew, {found.unchanged:,} are right "
        f"as they are, {found.others:,} were scored by others since, {found.unknown:,} can't be "
        "told",
        soft_wrap=True,
    )
    for objective, weight in found.length_weight.items():
        out.print(f"{objective}: {weight:.2g} taken out per token of length")


def _gate_file(settings: Settings, name: str) -> Path:
    return gate_file(settings.data_dir / "judges", name)


def _judge(settings: Settings, name: str) -> JudgeSettings:
    for judge in settings.judges:
        if judge.name == name:
            return judge
    known = ", ".join(judge.name for judge in settings.judges) or "none"
    raise ConfigError(f"judges: no judge is called {name!r}; there are {known}")
