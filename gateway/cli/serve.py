"""`pointsman serve`: serve, or only check that one could."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.checking import find_faults, find_warnings
from gateway.cli.options import Config
from gateway.cli.plain import announce, line
from gateway.engines.local import local_engines
from gateway.running import serve_forever
from gateway.server.listeners import Listeners, listening
from gateway.settings.faults import FaultyConfigError
from gateway.settings.load import load_configuration
from gateway.settings.root import Settings
from gateway.settings.server import is_loopback


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(serve)


def serve(
    config: Config = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port to listen on.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that answer.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Check and tell, don't serve.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --check: for programs.")] = False,
) -> None:
    """Serve the endpoint; local experts are started first and stopped at the end."""
    given = {"host": host, "port": port, "workers": workers}
    overrides = {name: value for name, value in given.items() if value is not None}
    if check:
        # It draws tables, which a server does not wait for.
        from gateway.cli.check import check_configuration

        raise typer.Exit(check_configuration(config, overrides, as_json=as_json))
    configuration = load_configuration(config, overrides)
    settings = configuration.settings
    if faults := find_faults(configuration):
        raise FaultyConfigError(faults)
    for warning in find_warnings(configuration):
        line(f"warning: {warning}")
    # An address that is taken is no reason to start engines first, which takes minutes.
    with listening(settings) as listeners, local_engines(settings, announce) as engines:
        _announce(settings, listeners)
        serve_forever(config, configuration, engines, overrides, listeners)


def _announce(settings: Settings, listeners: Listeners) -> None:
    server = settings.server
    scheme = "https" if server.tls_cert else "http"
    experts, port = len(settings.experts), listeners.public.getsockname()[1]
    line(f"serving {scheme}://{server.host}:{port}/v1 with {experts} experts")
    if server.admin_address is not None and listeners.admin is not None:
        host, port = server.admin_address[0], listeners.admin.getsockname()[1]
        line(f"dashboard, /admin and /metrics: {scheme}://{host}:{port}/")
    if not settings.keys and not is_loopback(server.host):
        line("WARNING: no keys, so whoever reaches this address spends your money")
