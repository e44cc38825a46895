"""Rows to INSERT statements, prepared once per table: the ledger's hot loop."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import repeat
from operator import is_, itemgetter
from typing import Any

from sqlalchemy import JSON, Connection, Table
from sqlalchemy.exc import DataError

from gateway.ledger import tables
from gateway.ledger.bulk import UNFIT, Column, Names, driven, insert_columns
from gateway.ledger.rows import Row, json_text

Groups = dict[tuple[Table, bool], list[Mapping[str, Any]]]
"""What rows say, by their table and whether they may be there already."""


def grouped(rows: Iterable[Row]) -> Groups:
    """Rows that go into the same statements, together."""
    groups: Groups = defaultdict(list)
    for table, values, once in rows:
        groups[table, once].append(values)
    return groups


def fitting(rows: Iterable[Row]) -> tuple[Row, ...] | None:
    """Rows as a strict database takes them: no NUL in texts, none longer than its column.

    None: these are so already.
    """
    changed, made = False, []
    for row in rows:
        short = {name: _fit(row.table.c[name], value) for name, value in row.values.items()}
        changed |= any(short[name] is not value for name, value in row.values.items())
        made.append(row._replace(values=short))
    return tuple(made) if changed else None


def _fit(column: Any, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    length = getattr(column.type, "length", None)
    if "\0" in value:
        value = value.replace("\0", "\N{REPLACEMENT CHARACTER}")
    return value if length is None or len(value) <= length else value[:length]


class KnownRows:
    """Rows that are there for good, and that come again with every call (prices do).

    By identity, which the same prices keep (`price_row`) and a reference preserves.
    """

    def __init__(self) -> None:
        self._rows: dict[int, Mapping[str, Any]] = {}

    def fresh(self, groups: Groups) -> list[Mapping[str, Any]]:
        """Take what is known out of `groups`; those that may be there already and are left."""
        for kind in [kind for kind in groups if kind[1]]:
            groups[kind] = [values for values in groups[kind] if id(values) not in self._rows]
        return [values for kind, found in groups.items() if kind[1] for values in found]

    def add(self, found: Sequence[Mapping[str, Any]]) -> None:
        """They are there now."""
        if len(self._rows) + len(found) > _MOST_KNOWN:
            self._rows.clear()
        self._rows.update({id(values): values for values in found[:_MOST_KNOWN]})


_MOST_KNOWN = 1_000


def insert(connection: Connection, groups: Groups) -> None:
    """Insert rows in the current transaction, parents before children.

    Raises:
        DBAPIError: A `DataError`, too, for what the driver would not even take.
    """
    kinds = sorted((kind for kind, found in groups.items() if found), key=_parents_first)
    if connection.dialect.name != "sqlite":
        try:
            for kind in kinds:
                _insert(connection, *kind, groups[kind])
        except UNFIT as error:
            raise DataError("rows", None, error) from error
        return
    with driven(connection) as cursor:
        for kind in kinds:
            _insert_into_sqlite(cursor, *kind, groups[kind])


_PLACES = {table: place for place, table in enumerate(tables.metadata.sorted_tables)}


def _parents_first(kind: tuple[Table, bool]) -> tuple[int, bool]:
    table, once = kind
    return _PLACES[table], not once


def _insert_into_sqlite(
    cursor: sqlite3.Cursor, table: Table, once: bool, found: Sequence[Mapping[str, Any]]
) -> None:
    names, columns = _columns(table, found)
    insert_columns(cursor, table.name, names, columns, _conflict(once))


def _insert(
    connection: Connection, table: Table, once: bool, found: Sequence[Mapping[str, Any]]
) -> None:
    _, columns = _columns(table, found)
    connection.exec_driver_sql(_statement(table, once), list(zip(*columns, strict=True)))


@lru_cache(maxsize=64)
def _statement(table: Table, once: bool) -> str:
    columns = ", ".join(f'"{column.name}"' for column in table.columns)
    values = ", ".join(["%s"] * len(table.columns))
    # Names come from our own table definitions; values are always parameters.
    return f'INSERT INTO "{table.name}" ({columns}) VALUES ({values}){_conflict(once)}'  # noqa: S608


def _conflict(once: bool) -> str:
    return " ON CONFLICT DO NOTHING" if once else ""


def _columns(table: Table, found: Sequence[Mapping[str, Any]]) -> tuple[Names, list[Column]]:
    """What rows say, by column in the table's order, JSON as text.

    By column, a row costs no step of Python's but those of its JSON.
    """
    names, all_of, as_json = _shape(table)
    try:
        rows = list(map(all_of, found))
    except KeyError:
        # What a row says nothing of is NULL.
        rows = [tuple(map(values.get, names)) for values in found]
    columns: list[Column] = list(zip(*rows, strict=True))
    for index in as_json:
        columns[index] = _json_texts(columns[index])
    return names, columns


@lru_cache(maxsize=64)
def _shape(table: Table) -> tuple[Names, Callable[[Mapping[str, Any]], tuple[Any, ...]], list[int]]:
    names = tuple(column.name for column in table.columns)
    as_json = [index for index, column in enumerate(table.columns) if _is_json(column)]
    return names, itemgetter(*names), as_json


def _json_texts(column: Column) -> list[str | None]:
    first = column[0]
    # Mostly nothing, or what was made once for all requests of a kind.
    empty = not any(column) and len(set(map(type, column))) == 1
    if empty or all(map(is_, column, repeat(first))):
        return [_json_or_null(first)] * len(column)
    return list(map(_json_or_null, column))


def _json_or_null(content: Any) -> str | None:
    return None if content is None else json_text(content)


def _is_json(column: Any) -> bool:
    return isinstance(column.type, JSON)
