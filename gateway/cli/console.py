"""How commands talk: tables for people, JSON for programs."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

_PIPED_WIDTH = 120
# Without a terminal there is no width to fit: 80 columns would break every table in a log.
_WIDTH = None if sys.stdout.isatty() else _PIPED_WIDTH
out = Console(highlight=False, emoji=False, width=_WIDTH)
err = Console(stderr=True, highlight=False, emoji=False)


def say(text: str) -> None:
    """A line of what is going on, for people, apart from results."""
    err.print(text)


def show_json(content: Any) -> None:
    """A result for programs, alone on standard output."""
    out.file.write(orjson.dumps(content, option=orjson.OPT_INDENT_2, default=str).decode() + "\n")


def show_table(title: str, columns: Mapping[str, str], rows: list[list[str]]) -> None:
    """A table; `columns` maps each heading to "left" or "right"."""
    # As texts: what people call things may have brackets, which are no markup.
    table = Table(title=Text(title), title_justify="left", header_style="bold")
    for heading, justify in columns.items():
        table.add_column(Text(heading), justify="right" if justify == "right" else "left")
    for row in rows:
        table.add_row(*map(Text, row))
    out.print(table)
