"""`pointsman routers`: which versions there are and which one serves."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from gateway.cli.console import out, show_json, show_table
from gateway.cli.serve import Config
from gateway.router_store import RouterStore
from gateway.settings.load import load_settings

commands = typer.Typer(help="List, promote and roll back router versions.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
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
