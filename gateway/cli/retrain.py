"""`pointsman retrain`: learn from what came in, and let through what is shown to be better."""

from __future__ import annotations

import threading
from dataclasses import asdict
from typing import Annotated

import typer

from experts.engines.parent import stop_with_parent
from gateway.cli.console import out, say, show_json
from gateway.cli.options import AsJson, Config
from gateway.ledger.database import opened
from gateway.routing.policies import named_policies
from gateway.routing.router_store import RouterStore
from gateway.settings.load import load_settings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(retrain)


def retrain(
    router: Annotated[str | None, typer.Option(help="Which; default: routing.router.")] = None,
    force: Annotated[bool, typer.Option(help="Fit now, however few scores are new.")] = False,
    watch: Annotated[bool, typer.Option(help="Go on, a look every retrain.look_every_s.")] = False,
    with_parent: Annotated[bool, typer.Option(hidden=True)] = False,
    config: Config = None,
    json: AsJson = False,
) -> None:
    """Do the next step: fit and judge, look at a shadow, or at a trial."""
    # What trains takes seconds to load.
    from gateway.retrain.cycle import Cycle

    settings = load_settings(config)
    name = router or settings.routing.router
    with opened(settings.ledger_url) as engine:
        store = RouterStore(settings.data_dir / "routers")
        named = named_policies(settings.routing.policies)
        cycle = Cycle(name, engine, store, settings.retrain, settings.routing.epsilon, named)
        stop = threading.Event()
        if with_parent:
            stop_with_parent(stop)
        while not stop.is_set():
            report = cycle.step(force=force)
            if json:
                show_json(asdict(report))
            elif report.what == "waiting":
                say(f"{name}: {report.reason}")
            else:
                out.print(f"{name}@{report.version}: {report.what}: {report.reason}", markup=False)
            if not watch:
                return
            force = False
            stop.wait(settings.retrain.look_every_s)
