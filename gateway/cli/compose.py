"""`pointsman compose`: compositions fitted to outcomes, as lines of configuration."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Annotated

import typer
import yaml

from eval.compositions.actions import FittedActions, fit_actions
from eval.compositions.drafts import DraftTable, read_drafts
from eval.compositions.fitting import FittedCascade, fit_cascade
from eval.compositions.planned import FittedPlan, fit_plan
from eval.compositions.seating import fit_seats
from eval.tables.prices import fill_costs, read_prices
from eval.tables.sources import read_outcomes, write_outcomes
from experts.compose.grouping import exact_key, numeric_key
from gateway.cli.console import out, say, show_json
from gateway.cli.graded import parse_tags
from gateway.cli.options import AsJson, FromLedger, Seed, Tags
from gateway.errors import ConfigError
from gateway.ledger.database import existing
from gateway.ledger.export import export_outcomes
from gateway.pool.learned_signals import save_scorer
from gateway.pool.planning import KIND
from routers.deferral.chain import Chain, LoggedDrafts
from routers.fitting.recipe import DEFAULT
from routers.records import OutcomeTable
from routers.storage.state_files import save_state

_MOST = 0.5
_KEYS: dict[str, Callable[[str], Hashable]] = {"exact": exact_key, "numeric": numeric_key}

commands = typer.Typer(help="Compositions fitted to outcomes.", no_args_is_help=True)


@commands.callback()
def _group() -> None:
    """Compositions fitted to outcomes."""


Data = Annotated[Path | None, typer.Option(help="Outcome table.")]
Drafts = Annotated[
    Path | None, typer.Option(help="Outcome table with a column response, or agreement.")
]
Members = Annotated[str, typer.Option(help="Whom it may ask: A,B,C.")]
PriceList = Annotated[Path | None, typer.Option(help="CSV of prices per model.")]


@commands.command()
def fit(
    experts: Members,
    data: Drafts = None,
    ledger: FromLedger = None,
    tag: Tags = None,
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
    worth_usd: Annotated[
        float | None,
        typer.Option(min=0, help="Fit A,B to what a right answer is worth; the hopeless are kept."),
    ] = None,
    name: Annotated[str, typer.Option(help="Id of the composition.")] = "cascade",
    out_file: Annotated[
        Path, typer.Option("--out", help="Where what judges drafts is written.")
    ] = Path("scorer.safetensors"),
    prices: PriceList = None,
    seed: Seed = 0,
    json: AsJson = False,
) -> None:
    """Fit a cascade to a budget, a quality, a risk or a worth, and print the entry for it."""
    wanted = _members(experts)
    table, drafts = _outcomes("compose fit", data, ledger, tag, prices)
    found: FittedCascade | FittedActions
    if worth_usd is None:
        found = fit_cascade(
            table, drafts, wanted, budget_usd=budget_usd, quality=quality, risk=risk, seed=seed
        )
    elif (budget_usd, quality, risk) == (None, None, None):
        found = fit_actions(table, drafts, wanted, worth_usd=worth_usd, seed=seed)
    else:
        raise ConfigError("--worth-usd is a goal of its own: leave out the other one")
    if found.scorer:
        save_scorer(found.scorer, out_file)
    _show_cascade(_entry(name, found, out_file), found, json)


@commands.command()
def plan(
    experts: Members,
    data: Data = None,
    ledger: FromLedger = None,
    tag: Tags = None,
    usd_weight: Annotated[
        float | None, typer.Option(min=0, help="Quality, in [0, 1], that a dollar has to bring.")
    ] = None,
    budget_usd: Annotated[
        float | None, typer.Option(min=0, help="Or the mean dollars per request to spend.")
    ] = None,
    most_calls: Annotated[int, typer.Option(min=1, max=4, help="Answers to one request.")] = 3,
    same: Annotated[str, typer.Option(help="When answers are the same: exact or numeric.")] = (
        "exact"
    ),
    estimator: Annotated[
        str, typer.Option(help="Of the router that says what to expect before anyone is asked.")
    ] = DEFAULT,
    name: Annotated[str, typer.Option(help="Id of the composition.")] = "planned",
    out_file: Annotated[Path, typer.Option("--out", help="Where the rule is written.")] = Path(
        "plan.safetensors"
    ),
    scorer: Annotated[Path, typer.Option(help="Where what judges answers is written.")] = Path(
        "scorer.safetensors"
    ),
    prices: PriceList = None,
    seed: Seed = 0,
    json: AsJson = False,
) -> None:
    """Fit cascade routing, the `planner` of a `routed` entry, and print the entry."""
    if same not in _KEYS:
        raise ConfigError(f"--same {same!r} must be one of {', '.join(_KEYS)}")
    wanted = _members(experts)
    table, drafts = _outcomes("compose plan", data, ledger, tag, prices)
    found = fit_plan(
        table,
        drafts,
        wanted,
        _KEYS[same],
        usd_weight=usd_weight,
        budget_usd=budget_usd,
        depth=min(most_calls, len(wanted)),
        estimator=estimator,
        seed=seed,
    )
    save_state(KIND, found.rule.state(), out_file)
    if found.scorer:
        save_scorer(found.scorer, scorer)
    planner = {"planner": str(out_file), "same": same}
    _show_plan({"id": name, **_routed(found, scorer), **planner}, found, json)


@commands.command()
def seats(
    experts: Members,
    team: Annotated[
        list[str],
        typer.Option(help="NAME=A,B: column NAME has the answers of the mixture of A and B."),
    ],
    data: Data = None,
    ledger: FromLedger = None,
    tag: Tags = None,
    count: Annotated[
        int | None,
        typer.Option("--seats", min=1, help="Drafts of a mixture; one each if not said."),
    ] = None,
    worth_usd: Annotated[
        float | None,
        typer.Option(min=0, help="What a right answer is worth; costs don't count if not said."),
    ] = None,
    estimator: Annotated[
        str, typer.Option(help="Of the router that says what to expect of each expert.")
    ] = DEFAULT,
    prices: PriceList = None,
    seed: Seed = 0,
    json: AsJson = False,
) -> None:
    """Fit who takes part, the `choose` of a `mixture` or `peers` entry, to what teams came to."""
    wanted = _members(experts)
    table, _ = _outcomes("compose seats", data, ledger, tag, prices)
    found = fit_seats(
        table,
        wanted,
        _teams(team),
        seats=count,
        worth_usd=worth_usd,
        estimator=estimator,
        seed=seed,
    )
    choose = {"margin": found.rules.margin, "mass": found.rules.mass}
    ways = {"fitted": found.fitted, "default": found.default}
    if json:
        told = {way: {"quality": good, "cost_usd": usd} for way, (good, usd) in ways.items()}
        show_json({"choose": choose, "queries": found.queries, **told})
        return
    say(f"on held-out folds of {found.queries} queries:")
    for way, (quality, usd) in ways.items():
        say(f"  {way}: quality {quality:.3f}, ${usd:.6g} each")
    out.print(yaml.safe_dump({"choose": choose}, sort_keys=False), markup=False, end="")


def _teams(told: list[str]) -> dict[str, list[str]]:
    """Columns of mixtures, with their members."""
    pairs = [each.partition("=") for each in told]
    for name, _, members in pairs:
        if not name or not members:
            raise ConfigError(
                f"--team {name!r} must be NAME=A,B: a column, and who took part in it"
            )
    return {name: members.split(",") for name, _, members in pairs}


def _routed(found: FittedPlan, scorer: Path) -> dict[str, object]:
    return {
        "kind": "routed",
        "children": list(found.rule.experts),
        "judged": {"by": found.by, **({"scorer": str(scorer)} if found.scorer else {})},
        "usd_weight": found.usd_weight,
        "most_calls": found.rule.depth,
    }


def _show_plan(entry: dict[str, object], found: FittedPlan, json: bool) -> None:
    ways = {"planned": found.planned, "routed": found.routed}
    if json:
        told = {way: {"quality": good, "cost_usd": usd} for way, (good, usd) in ways.items()}
        show_json({"entry": entry, "queries": found.queries, **told})
        return
    say(f"on held-out folds of {found.queries} queries:")
    for way, what in (("planned", "cascade routing"), ("routed", "choosing before any answer")):
        quality, usd = ways[way]
        say(f"  {what}: quality {quality:.3f}, ${usd:.6g} each")
    _show(entry)


def _members(experts: str) -> list[str]:
    wanted = experts.split(",")
    if len(set(wanted)) < len(wanted) or len(wanted) < 2:
        raise ConfigError(f"--experts {experts!r} must name two different experts or more")
    return wanted


def _outcomes(
    command: str, data: Path | None, ledger: str | None, tag: list[str] | None, prices: Path | None
) -> tuple[OutcomeTable, DraftTable]:
    """Graded answers with their texts, and costs by a price list where none were recorded."""
    if (data is None) == (ledger is None):
        raise ConfigError(f"{command} needs one of --data FILE and --ledger URL")
    table, drafts = _read(data) if data else _read_ledger(str(ledger), parse_tags(tag))
    return (fill_costs(table, read_prices(prices)) if prices else table), drafts


def _show(entry: dict[str, object]) -> None:
    out.print(yaml.safe_dump({"experts": [entry]}, sort_keys=False), markup=False, end="")


def _read(path: Path) -> tuple[OutcomeTable, DraftTable]:
    table = read_outcomes(path).table
    return table, read_drafts(path, table)


def _read_ledger(url: str, tags: dict[str, str]) -> tuple[OutcomeTable, DraftTable]:
    """Scored answers whose texts were kept; those of `collect` answer the same queries."""
    with existing(url) as engine:
        exported = export_outcomes(engine, tags=tags, answers=True)
    for reason, count in exported.left_out.items():
        say(f"left out: {count} scored answers {reason}")
    with tempfile.TemporaryDirectory() as scratch:
        return _read(write_outcomes(exported.rows, Path(scratch) / "ledger.parquet"))


def _entry(name: str, found: FittedCascade | FittedActions, scorer: Path) -> dict[str, object]:
    """The composition as an entry of `experts`."""
    children, rules = (
        (found.experts, [{"actions": list(found.rule.actions)}])
        if isinstance(found, FittedActions)
        else (found.chain.experts, _thresholds(found.chain))
    )
    judged = {"by": found.by, **({"scorer": str(scorer)} if found.scorer else {})}
    defer = [{**judged, **rule} for rule in rules]
    return {"id": name, "kind": "cascade", "children": list(children), "defer": defer}


def _thresholds(chain: Chain) -> list[dict[str, object]]:
    rules: list[dict[str, object]] = []
    for threshold in chain.thresholds:
        # A file can't say that some of those exactly there are deferred: most are, or none.
        most = threshold.tied >= _MOST
        accept_at = math.nextafter(threshold.at, math.inf) if most else threshold.at
        rules.append({"accept_at": min(accept_at, 1.0)})
    return rules


def _show_cascade(
    entry: dict[str, object], found: FittedCascade | FittedActions, json: bool
) -> None:
    worth = found.chain if isinstance(found, FittedCascade) else found
    singles = _singles(found.logged)
    if json:
        about = {"quality": worth.quality, "cost_usd": worth.cost_usd, "experts": singles}
        show_json({"entry": entry, "queries": len(found.logged), **about})
        return
    say(f"on {len(found.logged)} queries: quality {worth.quality:.3f}, ${worth.cost_usd:.6g} each")
    for expert, one in singles.items():
        say(f"  {expert} alone: {one['quality']:.3f}, ${one['cost_usd']:.6g}")
    _show(entry)


def _singles(logged: LoggedDrafts) -> dict[str, dict[str, float]]:
    """What each expert does alone."""
    means = zip(
        logged.experts, logged.score_NA.mean(axis=0), logged.cost_usd_NA.mean(axis=0), strict=True
    )
    return {name: {"quality": float(good), "cost_usd": float(cost)} for name, good, cost in means}
