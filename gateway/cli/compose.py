"""`pointsman compose`: compositions fitted to outcomes, as lines of configuration."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Annotated

import typer
import yaml

from eval.compositions.drafts import DraftTable, read_drafts
from eval.compositions.fitting import FittedCascade, fit_cascade
from eval.prices import fill_costs, read_prices
from eval.sources import read_outcomes, write_outcomes
from gateway.cli.console import out, say, show_json
from gateway.cli.graded import parse_tags
from gateway.cli.options import AsJson
from gateway.errors import ConfigError
from gateway.learned_signals import save_scorer
from gateway.ledger.database import opened
from gateway.ledger.export import export_outcomes
from routers.deferral.chain import Logged
from routers.records import OutcomeTable

_MOST = 0.5

commands = typer.Typer(help="Compositions fitted to outcomes.", no_args_is_help=True)


@commands.callback()
def _group() -> None:
    """Compositions fitted to outcomes."""


@commands.command()
def fit(
    experts: Annotated[str, typer.Option(help="Whom it may ask: A,B,C.")],
    data: Annotated[
        Path | None, typer.Option(help="Outcome table with a column response, or agreement.")
    ] = None,
    ledger: Annotated[str | None, typer.Option(help="Database URL of a ledger.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="name=value that requests carry.")] = None,
    budget_usd: Annotated[
        float | None, typer.Option(min=0, help="Fit to mean dollars per request.")
    ] = None,
    quality: Annotated[
        float | None, typer.Option(min=0, max=1, help="Fit to a mean score at the least cost.")
    ] = None,
    risk: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Fit A,B so that at most this share is kept and wrong."),
    ] = None,
    name: Annotated[str, typer.Option(help="Id of the composition.")] = "cascade",
    out_file: Annotated[
        Path, typer.Option("--out", help="Where what judges drafts is written.")
    ] = Path("scorer.safetensors"),
    prices: Annotated[Path | None, typer.Option(help="CSV of prices per model.")] = None,
    seed: Annotated[int, typer.Option(help="Source of all randomness.")] = 0,
    json: AsJson = False,
) -> None:
    """Fit a cascade to a budget, a quality or a risk, and print the entry that declares it."""
    if (data is None) == (ledger is None):
        raise ConfigError("compose fit needs one of --data FILE and --ledger URL")
    wanted = experts.split(",")
    if len(set(wanted)) < len(wanted) or len(wanted) < 2:
        raise ConfigError(f"--experts {experts!r} must name two different experts or more")
    table, drafts = _read(data) if data else _read_ledger(str(ledger), parse_tags(tag))
    if prices:
        table = fill_costs(table, read_prices(prices))
    found = fit_cascade(
        table, drafts, wanted, budget_usd=budget_usd, quality=quality, risk=risk, seed=seed
    )
    if found.scorer:
        save_scorer(found.scorer, out_file)
    entry = _entry(name, found, out_file)
    if json:
        show_json(_about(entry, found))
        return
    chain, logged = found.chain, found.logged
    say(f"on {len(logged)} queries: quality {chain.quality:.3f}, ${chain.cost_usd:.6g} each")
    for expert, one in _singles(logged).items():
        say(f"  {expert} alone: {one['quality']:.3f}, ${one['cost_usd']:.6g}")
    out.print(yaml.safe_dump({"experts": [entry]}, sort_keys=False), markup=False, end="")


def _read(path: Path) -> tuple[OutcomeTable, DraftTable]:
    table = read_outcomes(path).table
    return table, read_drafts(path, table)


def _read_ledger(url: str, tags: dict[str, str]) -> tuple[OutcomeTable, DraftTable]:
    """Scored answers whose texts were kept; those of `collect` answer the same queries."""
    with opened(url) as engine:
        exported = export_outcomes(engine, tags=tags, answers=True)
    for reason, count in exported.left_out.items():
        say(f"left out: {count} scored answers {reason}")
    with tempfile.TemporaryDirectory() as scratch:
        return _read(write_outcomes(exported.rows, Path(scratch) / "ledger.parquet"))


def _entry(name: str, found: FittedCascade, scorer: Path) -> dict[str, object]:
    """The composition as an entry of `experts`."""
    rules = []
    for threshold in found.chain.thresholds:
        # A file can't say that some of those exactly there are deferred: most are, or none.
        most = threshold.tied >= _MOST
        accept_at = math.nextafter(threshold.at, math.inf) if most else threshold.at
        rule: dict[str, object] = {"by": found.by, "accept_at": min(accept_at, 1.0)}
        if found.scorer:
            rule["scorer"] = str(scorer)
        rules.append(rule)
    children = list(found.chain.experts)
    return {"id": name, "kind": "cascade", "children": children, "defer": rules}


def _about(entry: dict[str, object], found: FittedCascade) -> dict[str, object]:
    return {
        "entry": entry,
        "quality": found.chain.quality,
        "cost_usd": found.chain.cost_usd,
        "queries": len(found.logged),
        "experts": _singles(found.logged),
    }


def _singles(logged: Logged) -> dict[str, dict[str, float]]:
    """What each expert does alone."""
    means = zip(
        logged.experts, logged.score_NA.mean(axis=0), logged.cost_usd_NA.mean(axis=0), strict=True
    )
    return {name: {"quality": float(good), "cost_usd": float(cost)} for name, good, cost in means}
