"""What hosting an expert takes and what asking it takes, read from a list."""

from __future__ import annotations

from pathlib import Path

from eval.tables.model_list import read_model_list


def read_footprints(path: Path | str, column: str) -> dict[str, float]:
    """One column of a CSV by its `model` column: parameters, gigabytes or dollars per hour.

    A model whose cell is empty is left out: what it takes is unknown.

    Raises:
        SourceError: The file is malformed; the message names row and column.
    """
    found: dict[str, float] = {}
    for listed in read_model_list(Path(path), (column,), "a number"):
        (value,) = listed.values
        if value is not None:
            found[listed.model] = value
    return found
