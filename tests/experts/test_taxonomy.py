from __future__ import annotations

import re
from pathlib import Path

from experts.taxonomy import HANDLING, Handling

DOCUMENT = Path(__file__).parents[2] / "docs/execution.md"


def documented() -> dict[str, tuple[str, ...]]:
    rows = (line.strip("| ").split(" | ") for line in DOCUMENT.read_text().splitlines())
    found = {}
    for cells in rows:
        if len(cells) == 6 and (kind := re.match(r"`(\w+)`: ", cells[0])):
            found[kind[1]] = tuple(cell.strip(" `") for cell in cells[1:])
    return found


def cells(row: Handling) -> tuple[str, ...]:
    yes = {True: "yes", False: "no"}
    other = "larger window" if row.larger else yes[row.other]
    return (yes[row.same], other, yes[row.counts], str(row.status), row.code)


def test_the_documented_table_is_the_table() -> None:
    assert documented() == {kind: cells(row) for kind, row in HANDLING.items()}


def test_who_needs_a_larger_window_may_ask_others() -> None:
    assert all(row.other for row in HANDLING.values() if row.larger)
