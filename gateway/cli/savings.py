"""`pointsman savings`: what routing saved in a window, with intervals."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eval.ope.asked import LoggedWishes
from gateway.cli.console import out, say, show_json, show_table
from gateway.cli.options import AsJson, Config, LedgerUrl, Seed
from gateway.cli.window import Since, Until, day
from gateway.dashboard.money import dollars
from gateway.ledger.cards import latest_cards
from gateway.ledger.database import existing
from gateway.ledger.history import history, latest_prices
from gateway.ledger.shadows import shadow_totals
from gateway.routing.policies import named_policies
from gateway.routing.router_store import RouterStore
from gateway.settings.load import load_settings
from routers.encoders.lexical import HashingEncoder
from routers.features import Featurizer

if TYPE_CHECKING:
    from eval.ope.savings import Alternative, Savings

# The time that it takes grows with them.
_MOST = 10_000
_COLUMNS = {
    "instead": "left",
    "$ per request": "right",
    "quality": "right",
    "saved": "right",
    "95 % interval": "right",
    "quality gained": "right",
}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(savings)


def savings(
    router: Annotated[str | None, typer.Option(help="Which; default: routing.router.")] = None,
    ledger: LedgerUrl = None,
    since: Since = None,
    until: Until = None,
    report: Annotated[Path | None, typer.Option(help="Folder for savings.html.")] = None,
    most: Annotated[
        int, typer.Option(min=100, help="Of more decisions, so many at random.")
    ] = _MOST,
    seed: Seed = 0,
    config: Config = None,
    json: AsJson = False,
) -> None:
    """What was spent, and what one expert alone or the previous router would have spent."""
    from eval.ope.savings import savings as reckon

    settings = load_settings(config)
    name = router or settings.routing.router
    span = day(since, 0.0), day(until, float("inf"))
    store = RouterStore(settings.data_dir / "routers")
    promoted = store.promoted(name)
    before = promoted.history[-1] if promoted and promoted.history else None
    with existing(ledger or settings.ledger_url) as engine:
        found = history(
            engine,
            name,
            since=span[0],
            until=span[1],
            most=most,
            seed=seed,
        )
        prices = dict.fromkeys(found.logged.table.experts) | latest_prices(engine)
        cards = latest_cards(engine)
        aside = shadow_totals(engine, name, span)
    for reason, count in found.left_out.items():
        say(f"left out: {count} decisions {reason}")
    previous = store.load(name, before) if before else None
    result = reckon(
        found.logged,
        LoggedWishes(
            found.preferences, found.policies, named_policies(settings.routing.policies), cards
        ),
        prices,
        previous.featurizer if previous else Featurizer(HashingEncoder()),
        found.served,
        previous=previous,
        aside=aside,
        labels=found.labels,
        seed=seed,
    )
    if report is not None:
        from eval.ope.savings_page import write_savings

        say(f"report: {write_savings(result, report)}")
    if json:
        show_json(result.as_json())
    else:
        _show(result)


def _show(result: Savings) -> None:
    unknown = f" and {result.unpriced:,} of unknown price" if result.unpriced else ""
    out.print(
        f"{result.requests:,} requests for {dollars(result.spent_usd)}{unknown}; "
        f"{result.scored:,} have a score, {100 * result.quality:.1f} on average"
    )
    if result.aside.calls:
        out.print(
            f"apart from them {result.aside.calls:,} shadow calls for "
            f"{dollars(result.aside.cost_usd)}"
        )
    show_table("instead of routing", _COLUMNS, [_row(each) for each in result.alternatives])
    for part in result.parts:
        title = f"{part.label} {part.value}: {part.requests:,} requests, {dollars(part.spent_usd)}"
        show_table(title, _COLUMNS, [_row(each) for each in part.alternatives])
    for each in result.alternatives:
        out.print(f"[bold]{each.sentence}[/]", soft_wrap=True)


def _row(each: Alternative) -> list[str]:
    if each.saved is None or each.quality is None or each.quality_gain is None:
        return [each.name, "unknown", "unknown", "the log can't tell", "", ""]
    interval = each.saved_ci
    return [
        each.name,
        dollars(each.cost_usd),
        f"{100 * each.quality:.1f}",
        f"{each.saved:.0%}",
        "" if interval is None else f"{interval.low:.0%} to {interval.high:.0%}",
        f"{100 * each.quality_gain:+.1f}",
    ]
