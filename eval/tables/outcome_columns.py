"""Reads the columns of an outcome file (Parquet, CSV, JSONL) as arrays, one entry per row."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from eval.errors import SourceError
from routers.records import Floats

TEXT_COLUMNS: Final[tuple[str, ...]] = ("query_id", "task", "prompt", "model", "dup_group", "split")
NUMBER_COLUMNS: Final[tuple[str, ...]] = (
    "score",
    "prompt_tokens",
    "completion_tokens",
    "cost_usd",
    "latency_s",
    "propensity",
    "nll",
)
REQUIRED_COLUMNS: Final[tuple[str, ...]] = ("query_id", "prompt", "model", "score")
_KNOWN = frozenset(TEXT_COLUMNS + NUMBER_COLUMNS)
_NO_NUMBER = "must be a number, got NaN; leave it null where it is unknown"


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """The columns of a file that mean something here; others are left out.

    Attributes:
        path: The file.
        row_numbers_R: Where each record stands in it, from 1, the header not counted.
        texts: Column name to an Arrow array of large strings, length R, null unknown.
        numbers: Column name to numbers, shape (R,), NaN unknown.
    """

    path: Path
    row_numbers_R: npt.NDArray[np.int64]
    texts: Mapping[str, Any]
    numbers: Mapping[str, Floats]

    def __len__(self) -> int:
        return len(self.row_numbers_R)

    def error(self, record: int, column: str, message: str) -> SourceError:
        """The error for one cell."""
        row = int(self.row_numbers_R[record])
        return SourceError(self.path, message, row=row, column=column)


def read_columns(path: Path) -> Columns:
    """Read a file by its extension.

    Raises:
        SourceError: No such file, an unknown extension, no rows, a column that is missing, or a
            value that is not of its column's type.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        known = ", ".join(sorted(_READERS))
        raise SourceError(path, f"unknown extension {path.suffix!r}; it must be one of {known}")
    if not path.is_file():
        raise SourceError(path, "there is no such file")
    if path.stat().st_size == 0:
        raise SourceError(path, "the file is empty")
    columns = reader(path)
    if not len(columns):
        raise SourceError(path, "the file holds no rows")
    return columns


def _read_parquet(path: Path) -> Columns:
    try:
        file = pq.ParquetFile(path)
        names = file.schema_arrow.names
        _check_names(path, names)
        table = file.read(columns=[name for name in names if name in _KNOWN])
    except (pa.ArrowException, OSError) as error:
        raise SourceError(path, f"not a readable Parquet file: {error}") from error
    return _from_arrow(path, table)


def _read_csv(path: Path) -> Columns:
    names = _csv_header(path)
    _check_names(path, names)
    wanted = [name for name in names if name in _KNOWN]
    bad_rows: list[pa_csv.InvalidRow] = []

    def note(row: pa_csv.InvalidRow) -> str:
        bad_rows.append(row)
        return "error"

    try:
        table = pa_csv.read_csv(
            path,
            read_options=pa_csv.ReadOptions(use_threads=False, block_size=path.stat().st_size + 1),
            parse_options=pa_csv.ParseOptions(newlines_in_values=True, invalid_row_handler=note),
            convert_options=pa_csv.ConvertOptions(
                include_columns=wanted,
                column_types={name: pa.large_string() for name in wanted},
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
    except (pa.ArrowException, OSError) as error:
        if bad_rows:
            bad = bad_rows[0]
            message = f"has {bad.actual_columns} fields, the header has {bad.expected_columns}"
            row = bad.number - 1 if bad.number is not None else None
            raise SourceError(path, message, row=row) from error
        raise SourceError(path, f"not a readable CSV file: {error}") from error
    return _from_arrow(path, table)


def _csv_header(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return next(csv.reader(file), [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise SourceError(path, f"the header is not UTF-8 text: {error}") from error


def _read_jsonl(path: Path) -> Columns:
    records: list[dict[str, Any]] = []
    rows: list[int] = []
    for row, line in enumerate(path.read_bytes().splitlines(), start=1):
        if line.strip():
            records.append(_json_record(path, row, line))
            rows.append(row)
    names = {name for record in records for name in record}
    if records:
        _check_names(path, names)
    row_numbers_R = np.array(rows, dtype=np.int64)
    return from_records(path, records, row_numbers_R)


def _json_record(path: Path, row: int, line: bytes) -> dict[str, Any]:
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        try:
            # Python writes NaN as it is, which is no JSON: so its column can be named.
            record = json.loads(line)
        except ValueError:
            raise SourceError(path, f"not valid JSON: {error}", row=row) from error
    if not isinstance(record, dict):
        raise SourceError(path, "must be a JSON object with the columns as keys", row=row)
    for name in REQUIRED_COLUMNS:
        if name not in record:
            raise SourceError(path, "missing in this row", row=row, column=name)
    return record


_READERS: Final[Mapping[str, Callable[[Path], Columns]]] = {
    ".parquet": _read_parquet,
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
}


def from_records(
    path: Path, records: list[dict[str, Any]], row_numbers_R: npt.NDArray[np.int64]
) -> Columns:
    """Columns from one mapping per row; a key that is absent is unknown."""
    names = {name for record in records for name in record}
    at = _Place(path, row_numbers_R)
    texts = {n: _texts(at, n, records) for n in TEXT_COLUMNS if n in names}
    numbers = {n: _numbers(at, n, records) for n in NUMBER_COLUMNS if n in names}
    return Columns(path, row_numbers_R, texts, numbers)


@dataclass(frozen=True, slots=True, eq=False)
class _Place:
    path: Path
    row_numbers_R: npt.NDArray[np.int64]

    def error(self, record: int, column: str, message: str) -> SourceError:
        return SourceError(self.path, message, row=int(self.row_numbers_R[record]), column=column)


def _texts(at: _Place, name: str, records: list[dict[str, Any]]) -> Any:
    values = [record.get(name) for record in records]
    for record, value in enumerate(values):
        if not isinstance(value, str | int | None) or isinstance(value, bool):
            raise at.error(record, name, f"must be text, got {value!r}")
    return pa.array([None if v is None else str(v) for v in values], pa.large_string())


def _numbers(at: _Place, name: str, records: list[dict[str, Any]]) -> Floats:
    values = [record.get(name) for record in records]
    for record, value in enumerate(values):
        if value is not None and not _is_number(value):
            # NaN is the one value that is not itself.
            message = f"must be a number, got {value!r}" if value == value else _NO_NUMBER
            raise at.error(record, name, message)
    return np.array([np.nan if v is None else float(v) for v in values], dtype=np.float64)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


def _check_names(path: Path, names: Iterable[str]) -> None:
    present = list(names)
    for name in REQUIRED_COLUMNS:
        if name not in present:
            found = ", ".join(map(repr, present)) or "none"
            raise SourceError(path, f"the column is missing; found {found}", column=name)


def _from_arrow(path: Path, table: Any) -> Columns:
    row_numbers_R = np.arange(1, table.num_rows + 1, dtype=np.int64)
    present = table.column_names
    texts = {n: _arrow_texts(path, n, table[n]) for n in TEXT_COLUMNS if n in present}
    numbers = {n: _arrow_numbers(path, n, table[n]) for n in NUMBER_COLUMNS if n in present}
    return Columns(path, row_numbers_R, texts, numbers)


def _arrow_texts(path: Path, name: str, column: Any) -> Any:
    if pa.types.is_boolean(column.type) or pa.types.is_nested(column.type):
        raise SourceError(path, f"must be text, is of type {column.type}", row=1, column=name)
    return _whole(column.cast(pa.large_string()))


_NUMBER_KINDS = (
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_decimal,
    pa.types.is_null,
)


def _arrow_numbers(path: Path, name: str, column: Any) -> Floats:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = _parsed(path, name, _whole(column))
    if not any(is_kind(column.type) for is_kind in _NUMBER_KINDS):
        message = f"must hold numbers, is of type {column.type}"
        raise SourceError(path, message, row=1, column=name)
    numbers = _whole(column.cast(pa.float64(), safe=False))
    values_R: Floats = numbers.to_numpy(zero_copy_only=False).astype(np.float64)
    odd = np.flatnonzero(np.isnan(values_R) & numbers.is_valid().to_numpy(zero_copy_only=False))
    if odd.size:
        raise SourceError(path, _NO_NUMBER, row=int(odd[0]) + 1, column=name)
    return values_R


def _parsed(path: Path, name: str, texts: Any) -> Any:
    trimmed = pc.utf8_trim_whitespace(texts)
    trimmed = pc.if_else(pc.equal(trimmed, ""), None, trimmed)
    try:
        return trimmed.cast(pa.float64())
    except pa.ArrowInvalid as error:
        row, value = next((r, v) for r, v in enumerate(trimmed.to_pylist(), 1) if not _is_float(v))
        message = f"must be a number, got {value!r}"
        raise SourceError(path, message, row=row, column=name) from error


def _is_float(value: str | None) -> bool:
    try:
        pa.scalar(value, pa.large_string()).cast(pa.float64())
    except pa.ArrowInvalid:
        return False
    return True


def _whole(column: Any) -> Any:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
