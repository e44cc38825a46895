"""Options that many commands have. Imports nothing of the gateway, so that commands start fast."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def _fit(key: str | None) -> str | None:
    """A key without the line end of the file that it came from, said to nobody if it is none."""
    key = (key or "").strip()
    if not (key.isascii() and key.isprintable()):
        raise typer.BadParameter("holds a character that no key has")
    return key or None


Config = Annotated[Path | None, typer.Option(help="YAML file; without it, the local pool.")]
Url = Annotated[str | None, typer.Option(help="A running gateway; default: the one configured.")]
ApiKey = Annotated[
    str | None,
    typer.Option("--key", envvar="POINTSMAN_KEY", help="API key.", callback=_fit),
]
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
