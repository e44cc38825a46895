"""Figures of models from a CSV file: a row per `model`, any columns beside it."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.errors import SourceError


@dataclass(frozen=True, slots=True)
class Listed:
    """One row.

    Attributes:
        row: Counted from 1 without the header.
        model: Its name; each stands in the file once.
        values: One per column asked for; None where the cell is empty.
    """

    row: int
    model: str
    values: tuple[float | None, ...]


def read_model_list(path: Path, columns: Sequence[str], unit: str) -> Iterator[Listed]:
    """The rows of a list, in its order.

    Args:
        path: The file.
        columns: Names of columns of numbers >= 0.
        unit: What they are numbers of, for messages: "a number of dollars".

    Raises:
        SourceError: The file is malformed; the message names row and column.
    """
    seen: set[str] = set()
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            _check_header(path, list(reader.fieldnames or ()), columns)
            for row, record in enumerate(reader, start=1):
                model = (record["model"] or "").strip()
                if not model:
                    raise SourceError(path, "must not be empty", row=row, column="model")
                if model in seen:
                    raise SourceError(path, f"{model!r} is listed twice", row=row, column="model")
                seen.add(model)
                texts = [(name, (record[name] or "").strip()) for name in columns]
                values = [_number(path, row, name, text, unit) for name, text in texts]
                yield Listed(row, model, tuple(values))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SourceError(path, f"not a readable CSV file: {error}") from error


def _check_header(path: Path, present: Sequence[str], columns: Sequence[str]) -> None:
    for name in ("model", *columns):
        if name not in present:
            found = ", ".join(map(repr, present)) or "none"
            raise SourceError(path, f"the column is missing; found {found}", column=name)


def _number(path: Path, row: int, column: str, text: str, unit: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise SourceError(path, f"must be {unit} >= 0, got {text!r}", row=row, column=column)
    return value
