"""Options that many commands have. Imports nothing of the gateway, so that commands start fast."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[Path | None, typer.Option(help="YAML file; without it, the local pool.")]
Seed = Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Source of all randomness.")]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
