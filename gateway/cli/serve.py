"""`pointsman serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.console import say
from gateway.cli.endpoint import announce
from gateway.local import local_engines
from gateway.running import check_exposure, serve_forever
from gateway.settings.load import load_settings

Config = Annotated[Path | None, typer.Option(help="YAML file; without it, the local pool.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(serve)


def serve(
    config: Config = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that answer.")] = 1,
) -> None:
    """Serve the endpoint; local experts are started first and stopped at the end."""
    settings = load_settings(config)
    host = host or settings.server.host
    port = settings.server.port if port is None else port
    check_exposure(settings, host)
    with local_engines(settings, announce) as endpoints:
        say(f"serving http://{host}:{port}/v1 with {len(settings.experts)} experts")
        serve_forever(config, settings, endpoints, host, port, workers)
