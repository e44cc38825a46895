"""Outcome files in and out: Parquet, CSV or JSONL with one row per query and expert."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from eval.errors import SourceError
from eval.tables.foreign import read_foreign
from eval.tables.outcome_checks import Codes, check_columns, codes, first_records
from eval.tables.outcome_columns import (
    NUMBER_COLUMNS,
    REQUIRED_COLUMNS,
    TEXT_COLUMNS,
    Columns,
    from_records,
    read_columns,
)
from experts.whole_files import whole_file
from routers.records import Floats, OutcomeTable

_ORDER = (
    "query_id", "task", "prompt", "model", "score", "prompt_tokens", "completion_tokens",
    "cost_usd", "latency_s", "propensity", "nll", "dup_group", "split",
)  # fmt: skip
_ALWAYS = _ORDER[:9]


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """What a file of outcomes holds.

    Attributes:
        path: The file.
        table: Its outcomes, one row per query.
        splits: The split each query belongs to, length N; None where the file names none.
        grouped: Whether the file itself says which questions are near-identical.
        notes: What a reader must know of how the file was understood, as whole sentences.
        nll_NA: Mean negative log-probability of each answer's tokens in nats, aligned with the
            table, NaN unknown.
    """

    path: Path
    table: OutcomeTable
    splits: tuple[str | None, ...]
    grouped: bool
    notes: tuple[str, ...]
    nll_NA: Floats


def read_outcomes(path: Path | str, form: str | None = None) -> Outcomes:
    """Read and check a file; how it is written goes by its extension (.parquet, .csv, .jsonl).

    Files of other projects are recognised by their columns, see `eval.tables.foreign`; so is a
    folder of them, where a project writes one file per model.

    A row without a score is an answer that was not graded: unknown, never 0. Columns that are not
    part of the format are left out.

    Args:
        path: The file, or a folder of files of another project.
        form: One of `eval.tables.foreign.FORMS` to read it as; None to recognise it.

    Raises:
        SourceError: The file is malformed; the message names file, row and column.
    """
    foreign = read_foreign(Path(path), form)
    columns, said = foreign or (read_columns(Path(path)), ())
    check_columns(columns)
    queries_R = codes(columns.texts["query_id"])
    prompts, variants = _prompts(columns, queries_R)
    splits = _per_query(columns, "split", queries_R)
    table = _pivot(columns, queries_R, prompts)
    grouped = any(_per_query(columns, "dup_group", queries_R))
    notes = (*said, *_notes(columns, table, variants))
    nll_NA = _Cells(columns, queries_R).spread("nll")
    return Outcomes(columns.path, table, splits, grouped, notes, nll_NA)


def check_target(path: Path) -> None:
    """Raises SourceError if no outcomes can be written to `path`: its extension, or its folder."""
    if path.suffix.lower() not in _WRITERS:
        raise SourceError(path, f"unknown extension {path.suffix!r}; use {', '.join(_WRITERS)}")
    if not path.parent.is_dir():
        raise SourceError(path, f"there is no folder '{path.parent}'")


def write_outcomes(rows: Iterable[Mapping[str, Any]], path: Path | str) -> Path:
    """Write rows in the format that `read_outcomes` reads; further columns are kept as they are.

    The file appears whole or not at all.

    Args:
        rows: One mapping per query and expert, keys as the columns; what is absent is unknown.
        path: Where to; the extension says the format.

    Raises:
        SourceError: No rows, an unknown extension, or a row that `read_outcomes` would refuse.
    """
    path = Path(path)
    records = [dict(row) for row in rows]
    check_target(path)
    if not records:
        raise SourceError(path, "there are no rows to write")
    table = _arrow_table(path, records)
    with whole_file(path) as whole:
        _WRITERS[path.suffix.lower()](table, whole)
    return path


def stream_outcomes(
    rows: Iterable[Mapping[str, Any]], path: Path | str, *, at_once: int = 5_000
) -> int:
    """`write_outcomes` for any number of rows, which are never in memory together.

    That no query and expert come twice is checked within every `at_once` rows only.

    Args:
        rows: As for `write_outcomes`; all of them have the columns of the first.
        path: Where to; the extension says the format.
        at_once: Rows in memory, and in a row group of Parquet.

    Returns:
        How many rows were written.

    Raises:
        SourceError: As for `write_outcomes`.
    """
    path, todo, written = Path(path), iter(rows), 0
    check_target(path)
    with whole_file(path) as whole, ExitStack() as stack:
        append = None
        while records := [dict(row) for row in islice(todo, at_once)]:
            table = _arrow_table(path, records, first=written + 1)
            if append is None:
                append = _appender(stack, whole, table.schema)
            append(table)
            written += len(records)
        if not written:
            raise SourceError(path, "there are no rows to write")
    return written


def _appender(stack: ExitStack, path: Path, schema: Any) -> Callable[[Any], object]:
    """What writes table after table into one file, until `stack` is left."""
    if path.suffix.lower() == ".jsonl":
        file = stack.enter_context(path.open("wb"))
        return lambda table: file.write(_as_jsonl(table))
    kind = pq.ParquetWriter if path.suffix.lower() == ".parquet" else pa_csv.CSVWriter
    append: Callable[[Any], object] = stack.enter_context(kind(path, schema)).write_table
    return append


def _arrow_table(path: Path, records: list[dict[str, Any]], first: int = 1) -> Any:
    for row, record in enumerate(records, start=first):
        for name in REQUIRED_COLUMNS:
            if name not in record:
                raise SourceError(path, "missing in this row", row=row, column=name)
    complete = [dict.fromkeys(_ALWAYS) | record for record in records]
    check_columns(from_records(path, complete, np.arange(first, first + len(records))))
    present = list(dict.fromkeys(name for record in complete for name in record))
    names = [n for n in _ORDER if n in present] + [n for n in present if n not in _ORDER]
    arrays = {name: _arrow_array(name, [r.get(name) for r in records]) for name in names}
    return pa.table(arrays)


def _arrow_array(name: str, values: Sequence[Any]) -> Any:
    if name in NUMBER_COLUMNS:
        return pa.array(values, pa.float64())
    if name in TEXT_COLUMNS:
        return pa.array([None if v is None else str(v) for v in values], pa.large_string())
    return pa.array(values)


def _write_jsonl(table: Any, path: Path) -> None:
    path.write_bytes(_as_jsonl(table))


def _as_jsonl(table: Any) -> bytes:
    return b"".join(orjson.dumps(row) + b"\n" for row in table.to_pylist())


_WRITERS = {".parquet": pq.write_table, ".csv": pa_csv.write_csv, ".jsonl": _write_jsonl}


def _pivot(columns: Columns, queries_R: Codes, prompts: tuple[str, ...]) -> OutcomeTable:
    cells = _Cells(columns, queries_R)
    spread = cells.spread
    query_ids = _per_query(columns, "query_id", queries_R)
    return OutcomeTable(
        query_ids=tuple(str(query_id) for query_id in query_ids),
        prompts=prompts,
        tasks=_per_query(columns, "task", queries_R),
        groups=_groups(_per_query(columns, "dup_group", queries_R), query_ids, prompts),
        experts=cells.experts,
        score_NA=spread("score"),
        prompt_tokens_NA=spread("prompt_tokens"),
        output_tokens_NA=spread("completion_tokens"),
        cost_usd_NA=spread("cost_usd"),
        latency_s_NA=spread("latency_s"),
        propensity_NA=spread("propensity", otherwise=1.0),
    )


class _Cells:
    """Which cell of a table, query by expert, each record of a file stands in."""

    def __init__(self, columns: Columns, queries_R: Codes) -> None:
        models = columns.texts["model"].dictionary_encode()
        names = models.dictionary.to_pylist()
        self.experts: tuple[str, ...] = tuple(sorted(names))
        column_of = np.array([self.experts.index(name) for name in names])
        self._models_R = column_of[models.indices.to_numpy(zero_copy_only=False)]
        self._queries_R = queries_R
        self._numbers = columns.numbers

    def spread(self, name: str, otherwise: float = np.nan) -> Floats:
        """A column of numbers, shape (N, A), with `otherwise` where there is none."""
        values_NA = np.full((int(self._queries_R.max()) + 1, len(self.experts)), otherwise)
        if name in self._numbers:
            values_R = self._numbers[name]
            values_NA[self._queries_R, self._models_R] = np.where(
                np.isnan(values_R), otherwise, values_R
            )
        return values_NA


def _per_query(columns: Columns, name: str, queries_R: Codes) -> tuple[str | None, ...]:
    firsts = first_records(queries_R)
    if name not in columns.texts:
        return (None,) * len(firsts)
    return tuple(columns.texts[name].take(pa.array(firsts)).to_pylist())


def _prompts(columns: Columns, queries_R: Codes) -> tuple[tuple[str, ...], int]:
    """The prompt of each query, its most frequent one, and how many have more than one."""
    prompts_R = codes(columns.texts["prompt"])
    firsts = first_records(queries_R)
    chosen = firsts.copy()
    varied = np.unique(queries_R[prompts_R != prompts_R[firsts[queries_R]]])
    for query in varied:
        records = np.flatnonzero(queries_R == query)
        counts = Counter(prompts_R[records].tolist())
        most = counts.most_common(1)[0][0]
        chosen[query] = records[prompts_R[records] == most][0]
    return tuple(columns.texts["prompt"].take(pa.array(chosen)).to_pylist()), len(varied)


def _groups(
    groups: tuple[str | None, ...], query_ids: tuple[str | None, ...], prompts: tuple[str, ...]
) -> tuple[str, ...]:
    """The group of each query: the file's own, or else one per prompt text."""
    by_prompt: dict[str, str] = {}
    found = []
    for group, query_id, prompt in zip(groups, query_ids, prompts, strict=True):
        own = by_prompt.setdefault(same_prompt_key(prompt), str(query_id))
        found.append(own if group is None else group)
    return tuple(found)


def same_prompt_key(prompt: str) -> str:
    """Equal for prompts that differ in case and white space only."""
    return " ".join(prompt.casefold().split())


def _notes(columns: Columns, table: OutcomeTable, variants: int) -> tuple[str, ...]:
    name = columns.path.name
    ungraded = int(np.isnan(columns.numbers["score"]).sum())
    missing = [column for column in _ALWAYS if column not in {*columns.texts, *columns.numbers}]
    notes = []
    if missing:
        notes.append(f"{name} has no column {', '.join(missing)}: taken as unknown.")
    if ungraded:
        notes.append(
            f"{name}: {ungraded:,} rows have no score and count as not observed, not as 0."
        )
    if variants:
        notes.append(
            f"{name}: {variants:,} queries come with longer and shorter versions of one prompt; "
            "routers see the most frequent one."
        )
    return (*notes, *_coverage_note(name, columns, table))


def _coverage_note(name: str, columns: Columns, table: OutcomeTable) -> list[str]:
    share = float((~np.isnan(table.score_NA)).mean())
    if share > 0.999:
        return []
    note = f"{name}: {share:.1%} of all (query, expert) pairs have a score; the others are unknown."
    if "propensity" not in columns.numbers and share < 0.9:
        note += " It has no propensities, so it is taken that which pairs are missing is chance."
    return [note]
