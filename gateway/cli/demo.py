"""`pointsman demo`: the main job on this machine."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.console import out as console
from gateway.cli.console import say, show_json
from gateway.cli.options import AsJson
from gateway.cli.table import show_comparison


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(demo)


def demo(
    out: Annotated[Path, typer.Option(help="Folder for report, ledger and routers.")] = Path("out"),
    fresh: Annotated[bool, typer.Option(help="Ask again what an earlier run asked.")] = False,
    loop: Annotated[
        bool, typer.Option(help="Only the learning loop, over answers of an earlier run.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Start real local experts, ask them through the endpoint, learn who is good at what."""
    # Drawing takes most of a second to load, which no other command should wait for.
    from gateway.demo.run import rerun_loop, run_demo

    began = time.monotonic()
    if loop:
        steps = [asdict(step) for step in rerun_loop(out)]
        if json:
            show_json({"loop": steps})
        say(f"done in {time.monotonic() - began:.0f} s")
        return
    comparison, paths = run_demo(out, fresh=fresh)
    show_comparison(comparison, paths, json)
    say(f"done in {time.monotonic() - began:.0f} s")
    if not json:
        console.print(f"look around: pointsman ledger stats --ledger sqlite:///{out}/ledger.db")
