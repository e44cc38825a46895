"""Rows to INSERT statements, prepared once per table: the ledger's hot loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import orjson
from sqlalchemy import JSON, Connection, Table

from gateway.ledger import tables
from gateway.ledger.rows import Row

_MARK = {"sqlite": "?", "postgresql": "%s"}
# One statement for many rows costs SQLite half of what as many statements cost.
_TOGETHER = 40


def insert_rows(connection: Connection, rows: Sequence[Row]) -> None:
    """Insert `rows` in the current transaction, parents before children."""
    by_table: dict[tuple[str, bool], list[tuple[Any, ...]]] = {}
    for row in rows:
        values = _reader(row.table)(row)
        by_table.setdefault((row.table.name, row.once), []).append(values)
    for table in tables.metadata.sorted_tables:
        for once in (True, False):
            if found := by_table.get((table.name, once)):
                _insert(connection, table, once, found)


def _insert(
    connection: Connection, table: Table, once: bool, rows: Sequence[tuple[Any, ...]]
) -> None:
    mark = _MARK[connection.dialect.name]
    whole = len(rows) - len(rows) % _TOGETHER if mark == "?" else 0
    many = _statement(table, once, mark, _TOGETHER)
    for start in range(0, whole, _TOGETHER):
        flat = tuple(value for row in rows[start : start + _TOGETHER] for value in row)
        connection.exec_driver_sql(many, flat)
    if rest := list(rows[whole:]):
        connection.exec_driver_sql(_statement(table, once, mark, 1), rest)


@lru_cache(maxsize=256)
def _statement(table: Table, once: bool, mark: str, count: int) -> str:
    columns = ", ".join(f'"{column.name}"' for column in table.columns)
    row = "(" + ", ".join([mark] * len(table.columns)) + ")"
    values = ", ".join([row] * count)
    conflict = " ON CONFLICT DO NOTHING" if once else ""
    # Names come from our own table definitions; values are always parameters.
    return f'INSERT INTO "{table.name}" ({columns}) VALUES {values}{conflict}'  # noqa: S608


@lru_cache(maxsize=64)
def _reader(table: Table) -> Callable[[Row], tuple[Any, ...]]:
    """A function from a row to its values in the order of the columns, JSON as text."""
    names = [column.name for column in table.columns]
    as_json = [index for index, column in enumerate(table.columns) if _is_json(column)]

    def read(row: Row) -> tuple[Any, ...]:
        values = list(map(row.values.get, names))
        for index in as_json:
            values[index] = orjson.dumps(values[index]).decode()
        return tuple(values)

    return read


def _is_json(column: Any) -> bool:
    return isinstance(column.type, JSON)
