"""`pointsman routers`: which versions there are and which one serves."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from eval.tables.sources import read_outcomes
from gateway.cli.console import out, say, show_json, show_table
from gateway.cli.graded import ledger_table, parse_tags
from gateway.cli.options import AsJson, Config, FromLedger, OfVersion, Promote, Tags
from gateway.errors import ConfigError
from gateway.routing.router_store import RouterStore
from gateway.settings.load import load_settings
from routers.fitting.admit import FEWEST_PROBES
from routers.fitting.admit import admit as admit_expert
from routers.fitting.learn import learn_on
from routers.router import Router

commands = typer.Typer(help="List, promote and roll back router versions.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="Router name, e.g. default.")]


@commands.command("list")
def list_(config: Config = None, json: AsJson = False) -> None:
    """Every version of every router; `*` marks the one that serves."""
    store = _store(config)
    rows = [
        _row(store, name, version) for name in store.all_names() for version in store.versions(name)
    ]
    if json:
        show_json(rows)
        return
    show_table(
        "routers",
        {
            "router": "left",
            "version": "left",
            "serves": "left",
            "made": "left",
            "estimator": "left",
        },
        [[str(value) for value in row.values()] for row in rows],
    )


@commands.command()
def promote(
    name: Name,
    version: Annotated[str, typer.Argument(help="Version, or its first characters.")],
    config: Config = None,
) -> None:
    """Serve this version from now on; a running gateway takes it over within a second or so."""
    promotion = _store(config).promote(name, version)
    out.print(f"{name} now serves {promotion.version}")


@commands.command()
def rollback(name: Name, config: Config = None) -> None:
    """Serve again what served before."""
    promotion = _store(config).rollback(name)
    out.print(f"{name} is back at {promotion.version}")


@commands.command()
def admit(
    name: Name,
    expert: Annotated[str, typer.Option(help="Id of the new expert.")],
    probes: Annotated[Path | None, typer.Option(help="Outcomes: parquet, csv, jsonl.")] = None,
    ledger: FromLedger = None,
    tag: Tags = None,
    version: OfVersion = None,
    promote: Promote = False,
    config: Config = None,
    json: AsJson = False,
) -> None:
    """Publish a version that may choose a new expert, from 25 to 100 graded answers of it.

    Nothing is trained anew, and what is expected of the others stays the same.
    """
    if (probes is None) == (ledger is None):
        raise ConfigError("routers admit needs one of --probes FILE and --ledger URL")
    store = _store(config)
    table = read_outcomes(probes).table if probes else ledger_table(str(ledger), parse_tags(tag))
    more = admit_expert(store.load(name, version or _serving(store, name)), expert, table)
    count = more.metadata["admitted"][-1]["probes"]
    if count < FEWEST_PROBES:
        say(
            f"{count} graded answers are few: {expert} will hardly be chosen before {FEWEST_PROBES}"
        )
    _publish(store, more, promote=promote, json=json, probes=count)


@commands.command()
def learn(
    name: Name,
    data: Annotated[Path | None, typer.Option(help="New outcomes: parquet, csv, jsonl.")] = None,
    ledger: FromLedger = None,
    tag: Tags = None,
    version: OfVersion = None,
    promote: Promote = False,
    config: Config = None,
    json: AsJson = False,
) -> None:
    """Publish a version that has learned from new outcomes too: linucb, thompson or online.

    The outcomes it was trained on are not needed. Give it each outcome once.
    """
    if (data is None) == (ledger is None):
        raise ConfigError("routers learn needs one of --data FILE and --ledger URL")
    store = _store(config)
    table = read_outcomes(data).table if data else ledger_table(str(ledger), parse_tags(tag))
    more = learn_on(store.load(name, version or _serving(store, name)), table)
    _publish(store, more, promote=promote, json=json, queries=len(table))


def _publish(
    store: RouterStore, router: Router, *, promote: bool, json: bool, **learned_from: int
) -> None:
    published = store.publish(router)
    if promote:
        store.promote(router.name, published)
    about = {"router": router.name, "version": published, **learned_from, "promoted": promote}
    if json:
        show_json(about)
    else:
        out.print(f"{router.name}@{published}{' now serves' if promote else ''}")


def _serving(store: RouterStore, name: str) -> str:
    promoted = store.promoted(name)
    if promoted is None:
        raise ConfigError(f"no version of router {name!r} serves; say which with --version")
    return promoted.version


def _store(config: Config) -> RouterStore:
    return RouterStore(load_settings(config).data_dir / "routers")


def _row(store: RouterStore, name: str, version: str) -> dict[str, str]:
    promoted = store.promoted(name)
    manifest = store.manifest(name, version)
    made = datetime.fromtimestamp(store.made_at(name, version), UTC)
    return {
        "router": name,
        "version": version,
        "serves": "*" if promoted and promoted.version == version else "",
        "made": f"{made:%Y-%m-%d %H:%M}",
        "estimator": str(manifest.get("metadata", {}).get("estimator", "")),
    }
