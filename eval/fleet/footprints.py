"""What hosting an expert takes and what asking it takes, read from a list."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from eval.errors import SourceError


def read_footprints(path: Path | str, column: str) -> dict[str, float]:
    """One column of a CSV by its `model` column: parameters, gigabytes or dollars per hour.

    A model whose cell is empty is left out: what it takes is unknown.

    Raises:
        SourceError: The file is malformed; the message names row and column.
    """
    path = Path(path)
    found: dict[str, float] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            names = list(reader.fieldnames or ())
            for name in ("model", column):
                if name not in names:
                    have = ", ".join(map(repr, names)) or "none"
                    raise SourceError(path, f"the column is missing; found {have}", column=name)
            for row, record in enumerate(reader, start=1):
                _add(path, row, column, record, found)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SourceError(path, f"not a readable CSV file: {error}") from error
    return found


def _add(
    path: Path, row: int, column: str, record: Mapping[str, str | None], found: dict[str, float]
) -> None:
    model, text = (record["model"] or "").strip(), (record[column] or "").strip()
    if not model:
        raise SourceError(path, "must not be empty", row=row, column="model")
    if model in found:
        raise SourceError(path, f"{model!r} is listed twice", row=row, column="model")
    if not text:
        return
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise SourceError(path, f"must be a number >= 0, got {text!r}", row=row, column=column)
    found[model] = value
