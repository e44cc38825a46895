"""Files as records, one mapping each: CSV, JSON Lines, JSON with a list of records, Parquet."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from eval.errors import SourceError

Record = Mapping[str, Any]

_LONGEST_FIELD = 2**27


def _csv_records(path: Path) -> Iterator[tuple[int, Record]]:
    csv.field_size_limit(_LONGEST_FIELD)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for number, record in enumerate(csv.DictReader(file, restkey=""), start=1):
                if "" in record or None in record.values():
                    raise SourceError(path, "has not as many fields as the header", row=number)
                yield number, {key: value or None for key, value in record.items()}
    except (UnicodeDecodeError, csv.Error) as error:
        raise SourceError(path, f"not a readable CSV file: {error}") from error


def _jsonl_records(path: Path) -> Iterator[tuple[int, Record]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, _object(path, line, number)


def _json_records(path: Path) -> Iterator[tuple[int, Record]]:
    """The records of a file that holds one object with a list of them, its own keys added."""
    whole = _object(path, path.read_bytes(), None)
    records = whole.get("records")
    if not isinstance(records, list):
        raise SourceError(path, "must hold a list", column="records")
    about = {key: value for key, value in whole.items() if key != "records"}
    for number, record in enumerate(records, start=1):
        if not isinstance(record, dict):
            raise SourceError(path, "must be a JSON object", row=number)
        yield number, {**about, **record}


def _object(path: Path, text: bytes, row: int | None) -> dict[str, Any]:
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise SourceError(path, f"not valid JSON: {error}", row=row) from error
    if not isinstance(found, dict):
        raise SourceError(path, "must be a JSON object", row=row)
    return found


def _parquet_records(path: Path) -> Iterator[tuple[int, Record]]:
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise SourceError(path, f"not a readable Parquet file: {error}") from error
    yield from enumerate(table.to_pylist(), start=1)


RECORDS: Final[Mapping[str, Callable[[Path], Iterator[tuple[int, Record]]]]] = {
    ".csv": _csv_records,
    ".json": _json_records,
    ".jsonl": _jsonl_records,
    ".parquet": _parquet_records,
}
"""Extension to what yields the records of such a file with their row numbers."""
