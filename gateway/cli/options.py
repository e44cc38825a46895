"""Options that many commands have. Imports nothing of the gateway, so that commands start fast."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[Path | None, typer.Option(help="YAML file; without it, the local pool.")]
Url = Annotated[str | None, typer.Option(help="A running gateway; default: the one configured.")]
ApiKey = Annotated[str | None, typer.Option("--key", envvar="POINTSMAN_KEY", help="API key.")]
Seed = Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Source of all randomness.")]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
LedgerUrl = Annotated[
    str | None, typer.Option("--ledger", help="Database URL; default: configured.")
]
FromLedger = Annotated[str | None, typer.Option("--ledger", help="Database URL of a ledger.")]
Tags = Annotated[list[str] | None, typer.Option("--tag", help="name=value that requests carry.")]
OfVersion = Annotated[
    str | None, typer.Option("--version", help="Of this version, not what serves.")
]
Promote = Annotated[bool, typer.Option(help="Serve it at once.")]
Ray = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="Spread the work over a Ray cluster: HOST:PORT or ray://HOST:PORT.",
    ),
]
