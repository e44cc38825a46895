"""Rows to INSERT statements, prepared once per table: the ledger's hot loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import chain
from operator import itemgetter
from typing import Any

from sqlalchemy import JSON, Connection, Table

from gateway.ledger import tables
from gateway.ledger.rows import Row, json_text

_MARK = {"sqlite": "?", "postgresql": "%s"}
# One statement for many rows costs SQLite half of what as many statements cost. And the driver
# gives up the interpreter at each statement, which a busy event loop gives back late.
_TOGETHER = (40, 8)


def insert_rows(connection: Connection, rows: Sequence[Row]) -> None:
    """Insert `rows` in the current transaction, parents before children."""
    by_table: dict[tuple[str, bool], list[Row]] = {}
    for row in rows:
        kind = row.table.name, row.once
        if (alike := by_table.get(kind)) is None:
            alike = by_table[kind] = []
        alike.append(row)
    for table in _PARENTS_FIRST:
        for once in (True, False):
            if found := by_table.get((table.name, once)):
                _insert(connection, table, once, found)


_PARENTS_FIRST = tables.metadata.sorted_tables


def _insert(connection: Connection, table: Table, once: bool, rows: Sequence[Row]) -> None:
    mark, values = _MARK[connection.dialect.name], _reader(table)
    done = 0
    for count in _TOGETHER if mark == "?" else ():
        many = _statement(table, once, mark, count)
        while len(rows) - done >= count:
            together = rows[done : done + count]
            connection.exec_driver_sql(many, tuple(chain.from_iterable(map(values, together))))
            done += count
    if rest := [tuple(values(row)) for row in rows[done:]]:
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
def _reader(table: Table) -> Callable[[Row], Sequence[Any]]:
    """A function from a row to its values in the order of the columns, JSON as text."""
    names = [column.name for column in table.columns]
    as_json = [index for index, column in enumerate(table.columns) if _is_json(column)]
    all_of = itemgetter(*names)

    def read(row: Row) -> Sequence[Any]:
        try:
            values: tuple[Any, ...] = all_of(row.values)
        except KeyError:
            # What a row says nothing of is NULL.
            values = tuple(map(row.values.get, names))
        if not as_json:
            return values
        texts = list(values)
        for index in as_json:
            texts[index] = json_text(texts[index])
        return texts

    return read


def _is_json(column: Any) -> bool:
    return isinstance(column.type, JSON)
