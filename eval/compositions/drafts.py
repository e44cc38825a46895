"""The answers and samples that an outcome file holds beside its scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.json as pa_json
import pyarrow.parquet as pq

from eval.errors import SourceError
from routers.records import Floats, OutcomeTable

_READERS = {".parquet": pq.read_table, ".csv": pa_csv.read_csv, ".jsonl": pa_json.read_json}
_TEXT = "response"
_NUMBERS = ("agreement", "n_samples", "sample_mean")


@dataclass(frozen=True, slots=True, eq=False)
class DraftTable:
    """Beside an `OutcomeTable`, what each expert answered.

    Attributes:
        answers_NA: Texts, None where none is recorded.
        agreement_NA: Share of an expert's own samples that give its answer, NaN unknown.
        samples_NA: How many samples the cell's score and cost stand for one of, NaN unknown.
        sample_mean_NA: Mean score of these samples, NaN unknown.
    """

    answers_NA: tuple[tuple[str | None, ...], ...]
    agreement_NA: Floats
    samples_NA: Floats
    sample_mean_NA: Floats

    def take(self, rows: Sequence[int], columns: Sequence[int]) -> DraftTable:
        """The same of some queries and some experts, in that order."""
        cells = np.ix_(rows, columns)
        answers = tuple(tuple(self.answers_NA[row][column] for column in columns) for row in rows)
        numbers = (self.agreement_NA, self.samples_NA, self.sample_mean_NA)
        return DraftTable(answers, *(values_NA[cells] for values_NA in numbers))

    @property
    def has_answers(self) -> bool:
        """Whether every cell has its text."""
        return all(answer is not None for row in self.answers_NA for answer in row)


def read_drafts(path: Path, table: OutcomeTable) -> DraftTable:
    """The columns `response`, `agreement` and `n_samples` of a file, where it has them.

    Args:
        path: The file that `table` was read from.
        table: Whose queries and experts.

    Raises:
        SourceError: The file can't be read.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise SourceError(path, f"unknown extension {path.suffix!r}; use {', '.join(_READERS)}")
    try:
        found = reader(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise SourceError(path, f"can't be read: {error}") from error
    row_of = {query: row for row, query in enumerate(table.query_ids)}
    column_of = {expert: column for column, expert in enumerate(table.experts)}
    shape = (len(table), len(table.experts))
    answers: list[list[str | None]] = [[None] * shape[1] for _ in range(shape[0])]
    numbers = {name: np.full(shape, np.nan) for name in _NUMBERS}
    present = [name for name in (_TEXT, *_NUMBERS) if name in found.column_names]
    if not present:
        return DraftTable(tuple(tuple(row) for row in answers), *numbers.values())
    columns = [found.column(name).to_pylist() for name in ("query_id", "model", *present)]
    for query, model, *values in zip(*columns, strict=True):
        row, column = row_of.get(str(query)), column_of.get(str(model))
        if row is None or column is None:
            continue
        for name, value in zip(present, values, strict=True):
            if value is None:
                continue
            if name == _TEXT:
                answers[row][column] = str(value)
            else:
                numbers[name][row, column] = float(value)
    return DraftTable(tuple(tuple(row) for row in answers), *(numbers[name] for name in _NUMBERS))
