"""`pointsman experts`: the pool as the configuration has it."""

from __future__ import annotations

import typer

from gateway.cli.console import show_json, show_table
from gateway.cli.routers import AsJson
from gateway.cli.serve import Config
from gateway.settings.experts import ExpertSettings, UrlExpert
from gateway.settings.load import load_settings

commands = typer.Typer(help="The experts of the pool.", no_args_is_help=True)


@commands.command("list")
def list_(config: Config = None, json: AsJson = False) -> None:
    """Every configured expert and where it answers."""
    rows = [_row(expert) for expert in load_settings(config).experts]
    if json:
        show_json(rows)
        return
    show_table(
        "experts",
        {"expert": "left", "kind": "left", "where": "left"},
        [list(row.values()) for row in rows],
    )


def _row(expert: ExpertSettings) -> dict[str, str]:
    if isinstance(expert, UrlExpert):
        where = ", ".join(expert.urls)
    else:
        where = getattr(expert, "package", "in the gateway")
    return {"expert": expert.id, "kind": expert.kind, "where": where}


@commands.callback()
def _group() -> None:
    """Keeps `list` a command of its own while it is the only one."""
