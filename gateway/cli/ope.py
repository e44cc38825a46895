"""`pointsman ope`: the value of a router that never served, from the ledger."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eval.errors import OffPolicyError
from gateway.cli.console import out, say, show_json, show_table
from gateway.cli.options import AsJson, Config, LedgerUrl, Seed
from gateway.cli.window import Since, Until, day
from gateway.dashboard.money import dollars
from gateway.errors import ConfigError
from gateway.ledger.cards import latest_cards
from gateway.ledger.database import existing
from gateway.ledger.history import history, latest_prices
from gateway.routing.policies import named_policies
from gateway.routing.router_store import RouterStore
from gateway.settings.load import load_settings

if TYPE_CHECKING:
    from eval.ope.front import FrontPoint
    from eval.ope.study import Study

_COLUMNS = {
    "per request": "left",
    "served": "right",
    "candidate": "right",
    "gain": "right",
    "95 % interval": "right",
}
_FRONT = {"quality": "right", "$ per request": "right"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(ope)


def ope(
    router: Annotated[str, typer.Option(help="NAME@VERSION of the candidate.")],
    served: Annotated[
        str | None, typer.Option(help="Router whose decisions judge it; default: NAME.")
    ] = None,
    ledger: LedgerUrl = None,
    since: Since = None,
    until: Until = None,
    objective: Annotated[str, typer.Option(help="Which scores.")] = "quality",
    policy: Annotated[
        str | None, typer.Option(help="As if all had asked for it; default: what each asked for.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Folder for ope.html and ope.json.")] = None,
    seed: Seed = 0,
    config: Config = None,
    json: AsJson = False,
) -> None:
    """What a router would have been worth on logged requests; exit code 1 if the log can't tell.

    Each request is decided by the named policy that it asked for, as that is configured now.
    """
    from eval.ope.asked import LoggedWishes
    from eval.ope.study import study

    settings = load_settings(config)
    name, at, version = router.partition("@")
    if not at:
        raise ConfigError(f"--router {router!r} must look like NAME@VERSION; see `routers list`")
    candidate = RouterStore(settings.data_dir / "routers").load(name, version)
    with existing(ledger or settings.ledger_url) as engine:
        found = history(
            engine,
            served or name,
            objective=objective,
            since=day(since, 0.0),
            until=day(until, float("inf")),
        )
        prices = dict.fromkeys(found.logged.table.experts) | latest_prices(engine)
        cards = latest_cards(engine)
    for reason, count in found.left_out.items():
        say(f"left out: {count} decisions {reason}")
    named = named_policies(settings.routing.policies)
    asked = LoggedWishes(found.preferences, found.policies, named, cards)
    result = study(candidate, found.logged, asked, prices, policy=policy, seed=seed)
    if report is not None:
        from eval.ope.page import write_page

        say(f"report: {write_page(result, report)}")
    if json:
        show_json(result.as_json())
    else:
        _show(result)
    if result.judgement.refused:
        raise OffPolicyError(result.sentence)


def _show(result: Study) -> None:
    out.print(
        f"{result.scored:,} of {result.decisions:,} decisions have a score; for this candidate "
        f"they are worth {result.judgement.support.effective:,.0f}"
    )
    for warning in result.judgement.support.warnings:
        out.print(f"  warning: {warning}", markup=False, soft_wrap=True)
    gains = result.judgement.gains
    if gains:
        show_table(result.candidate, _COLUMNS, [_row(result, objective) for objective in gains])
        for title, what, points in (
            ("at fixed cost weights", "cost weight", result.front),
            ("had all asked for one policy", "policy", result.policies),
        ):
            show_table(title, {what: "right", **_FRONT}, [_point(point) for point in points])
    out.print(f"[bold]{result.sentence}[/]", soft_wrap=True)


def _row(result: Study, objective: str) -> list[str]:
    served, gain = result.judgement.served[objective], result.judgement.gains[objective]
    value = result.judgement.values[objective]["dr"]
    write = dollars if objective == "cost" else _share
    interval = gain.bootstrap
    shown = "unknown" if interval is None else f"{write(interval.low)} to {write(interval.high)}"
    return [objective, write(served.value), write(value.value), write(gain.value), shown]


def _point(point: FrontPoint) -> list[str]:
    quality, cost = point.quality, point.cost
    if quality is None:
        return [point.setting, "the log can't tell", ""]
    error = f"{_share(quality.value)} ± {196 * quality.stderr:.1f}"
    return [point.setting, error, "unknown" if cost is None else dollars(cost.value)]


def _share(value: float) -> str:
    return f"{100 * value:.1f}"
