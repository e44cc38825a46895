"""`pointsman ledger`: look into the book, take outcomes out of it, prove it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from eval.best_answers import ExampleRules, preferences, supervised
from experts.cards import Prices
from gateway.cli.console import out, say, show_json, show_table
from gateway.cli.graded import parse_tags
from gateway.cli.options import AsJson, Config, LedgerUrl, Tags
from gateway.cli.progress import filling
from gateway.cli.window import Until, day
from gateway.dashboard.money import dollars
from gateway.errors import ConfigError, LedgerError
from gateway.ledger.database import existing
from gateway.ledger.export import count_scored, export_rows
from gateway.ledger.forget import count_due, days_by_wire
from gateway.ledger.forget import forget as forget_texts
from gateway.ledger.queries import LedgerReader
from gateway.ledger.reprice import Which, check_known, count_attempts
from gateway.ledger.reprice import reprice as correct
from gateway.ledger.rollup import days_due
from gateway.ledger.verify import verify_ledger
from gateway.settings.ledger import ROUTES
from gateway.settings.load import load_settings

commands = typer.Typer(help="The append-only book.", no_args_is_help=True)
_MANY_DAYS = 3


@commands.command()
def stats(ledger: LedgerUrl = None, config: Config = None, json: AsJson = False) -> None:
    """Requests, dollars and scores, in all and per expert."""
    with existing(_url(ledger, config)) as engine:
        reader, days = LedgerReader(engine), days_due(engine)
        if days < _MANY_DAYS:
            totals, experts = reader.summary()
        else:
            with filling("days summed up", days) as progress:
                totals, experts = reader.summary(progress)
    if json:
        show_json({"totals": totals, "experts": experts})
        return
    out.print(
        f"{totals['requests']} requests ({totals['failed']} failed), {dollars(totals['cost_usd'])} "
        f"({dollars(totals['wasted_usd'])} wasted), {totals['cache_hits']} answered by the cache "
        f"({dollars(totals['saved_usd'])} saved), {totals['outcomes']} scores"
    )
    if totals["shadow_calls"]:
        out.print(
            f"apart from them {totals['shadow_calls']} shadow calls for "
            f"{dollars(totals['shadow_usd'])}, {totals['shadow_outcomes']} scores"
        )
    show_table(
        "by expert",
        {
            "expert": "left",
            "requests": "right",
            "cost": "right",
            "seconds": "right",
            "score": "right",
        },
        [
            [
                row["expert"],
                str(row["requests"]),
                dollars(row["cost_usd"]),
                f"{row['latency_s']:.2f}",
                "unknown" if row["score"] is None else f"{row['score']:.3f}",
            ]
            for row in experts
        ],
    )


@commands.command()
def export(
    out_file: Annotated[Path, typer.Option("--out", help=".parquet, .csv or .jsonl file.")],
    tag: Tags = None,
    objective: Annotated[str, typer.Option(help="Which scores.")] = "quality",
    sft: Annotated[bool, typer.Option("--sft", help="The best answers, to imitate.")] = False,
    pairs: Annotated[
        bool, typer.Option("--preferences", help="Pairs of a better and a worse answer.")
    ] = False,
    most: Annotated[int, typer.Option(min=1, help="Most examples or pairs per question.")] = 5,
    at_least: Annotated[float, typer.Option(min=0, max=1, help="Lowest good score.")] = 0.5,
    margin: Annotated[float, typer.Option(min=0.001, max=1, help="Between pairs.")] = 0.5,
    then: Annotated[str | None, typer.Option(help="Objective that settles ties.")] = None,
    licence: Annotated[
        list[str] | None, typer.Option(help="Only of experts tagged with one of these.")
    ] = None,
    ledger: LedgerUrl = None,
    config: Config = None,
) -> None:
    """Scored answers as an outcome table; or as examples for TRL (JSONL)."""
    if sft or pairs:
        if sft and pairs:
            raise ConfigError("--sft and --preferences are two files: export twice")
        # Not at the top, for the same reason as below.
        from gateway.cli.examples import export_examples

        rules = ExampleRules(most, at_least, margin, frozenset(licence or ()))
        make = supervised if sft else preferences
        with existing(_url(ledger, config)) as engine:
            export_examples(
                engine, out_file, lambda answers: make(answers, rules), objective, then, tag
            )
        return
    # Not at the top: the other commands answer in half the time without Arrow.
    from eval.tables.sources import stream_outcomes

    left_out: dict[str, int] = {}
    wanted = parse_tags(tag)
    with (
        existing(_url(ledger, config)) as engine,
        filling("scored answers", count_scored(engine, objective)) as progress,
    ):
        rows = export_rows(engine, left_out, objective=objective, tags=wanted, progress=progress)
        written = stream_outcomes(rows, out_file)
    for reason, count in left_out.items():
        say(f"left out: {count} scored answers {reason}")
    out.print(f"{written} rows in {out_file}")


@commands.command()
def verify(ledger: LedgerUrl = None, config: Config = None, json: AsJson = False) -> None:
    """Prove that sums hold and nothing is missing; exit code 1 when something does not hold."""
    with existing(_url(ledger, config)) as engine:
        verdict = verify_ledger(engine)
    if json:
        show_json(asdict(verdict))
    else:
        rows = ", ".join(f"{count} {name}" for name, count in verdict.rows.items())
        out.print(f"rows: {rows}")
        out.print(f"open attempts: {verdict.open_attempts}; of unknown price: {verdict.unpriced}")
        for fault in verdict.faults:
            out.print(f"  {fault}", soft_wrap=True)
    if verdict.faults:
        raise LedgerError(f"the ledger does not hold: {len(verdict.faults)} faults")
    if not json:
        out.print("the ledger holds")


@commands.command()
def forget(
    days: Annotated[
        float | None, typer.Option(min=0, help="Of all routes; default: as configured.")
    ] = None,
    ledger: LedgerUrl = None,
    config: Config = None,
    json: AsJson = False,
) -> None:
    """Blank prompts, answers and comments that are older; counts, costs and scores stay."""
    settings = load_settings(config)
    due = days_by_wire(settings.ledger) if days is None else dict.fromkeys(ROUTES, days)
    if not due:
        raise ConfigError("set ledger.keep_text_days or give --days: texts are kept for ever")
    with (
        existing(ledger or settings.ledger_url) as engine,
        filling("requests", count_due(engine, due)) as progress,
    ):
        done = forget_texts(engine, due, progress=progress)
    if json:
        show_json({"requests": done})
    else:
        out.print(f"the texts of {done:,} requests are gone")


@commands.command()
def reprice(
    expert: Annotated[str, typer.Option(help="Whose attempts.")],
    since: Annotated[str, typer.Option(help="First day or moment, e.g. 2026-11-01 (UTC).")],
    input_price: Annotated[float, typer.Option("--input", min=0, help="$ per million tokens.")],
    output_price: Annotated[float, typer.Option("--output", min=0, help="$ per million tokens.")],
    until: Until = None,
    cache_read: Annotated[float | None, typer.Option(min=0, help="Default: --input.")] = None,
    cache_write: Annotated[float | None, typer.Option(min=0, help="Default: --input.")] = None,
    request: Annotated[float, typer.Option(min=0, help="Flat $ per call.")] = 0.0,
    reason: Annotated[str, typer.Option(help="Kept with each correction.")] = "price corrected",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would do.")] = False,
    ledger: LedgerUrl = None,
    config: Config = None,
    json: AsJson = False,
) -> None:
    """Correct what an expert's attempts have cost; nothing booked is changed."""
    which = Which(expert, day(since, 0.0), day(until, float("inf")))
    if which.since >= which.until:
        raise ConfigError(f"--until {until} is not after --since {since}")
    prices = Prices(
        input_price,
        output_price,
        cache_read=cache_read,
        cache_write=cache_write,
        request=request,
        source=reason,
    )
    with (
        existing(_url(ledger, config)) as engine,
        filling("attempts", count_attempts(engine, which)) as progress,
    ):
        check_known(engine, expert)
        done = correct(engine, which, prices, dry_run=dry_run, progress=progress)
    if json:
        show_json({**done.as_json(), "dry_run": dry_run})
        return
    would = "would be" if dry_run else "were"
    out.print(
        f"{done.corrected:,} of {done.looked_at:,} attempts {would} corrected: "
        f"{dollars(done.as_json()['new_usd'])} instead of {dollars(done.as_json()['old_usd'])}"
    )
    say("budgets keep what they were charged")


def _url(given: str | None, config: Path | None) -> str:
    return given or load_settings(config).ledger_url
