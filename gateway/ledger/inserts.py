"""Rows to INSERT statements, prepared once per table: the ledger's hot loop."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
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


class Known:
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
    """Insert rows in the current transaction, parents before children."""
    for table in _PARENTS_FIRST:
        for once in (True, False):
            if found := groups.get((table, once)):
                _insert(connection, table, once, found)


_PARENTS_FIRST = tables.metadata.sorted_tables


def _insert(
    connection: Connection, table: Table, once: bool, found: Sequence[Mapping[str, Any]]
) -> None:
    mark, rows = _MARK[connection.dialect.name], _reader(table)(found)
    done = 0
    for count in _TOGETHER if mark == "?" else ():
        many = _statement(table, once, mark, count)
        while len(rows) - done >= count:
            together = rows[done : done + count]
            connection.exec_driver_sql(many, tuple(chain.from_iterable(together)))
            done += count
    if rest := rows[done:]:
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
def _reader(table: Table) -> Callable[[Sequence[Mapping[str, Any]]], list[tuple[Any, ...]]]:
    """A function from what rows say to values in the order of the columns, JSON as text."""
    names = [column.name for column in table.columns]
    as_json = [index for index, column in enumerate(table.columns) if _is_json(column)]
    all_of = itemgetter(*names)

    def read(found: Sequence[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
        try:
            rows = list(map(all_of, found))
        except KeyError:
            # What a row says nothing of is NULL.
            rows = [tuple(map(values.get, names)) for values in found]
        if not as_json:
            return rows
        # By column, a row costs no step of Python's but those of its JSON.
        columns = list(zip(*rows, strict=True))
        for index in as_json:
            columns[index] = tuple(map(_json_or_null, columns[index]))
        return list(zip(*columns, strict=True))

    return read


def _json_or_null(content: Any) -> str | None:
    return None if content is None else json_text(content)


def _is_json(column: Any) -> bool:
    return isinstance(column.type, JSON)
