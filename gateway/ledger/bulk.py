"""Many rows into SQLite, past SQLAlchemy: the ledger's hottest lines.

Most of what they take is the driver's: .1 µs for each number that it binds, .2 for a text and .4
for a None or a bool. Most columns of a batch say the same in every row, and often that is NULL, so
such a value is bound once for all rows of a statement.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import chain
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DataError, DBAPIError

Names = tuple[str, ...]
Column = Sequence[Any]
"""What one column says in each row."""

UNFIT = (OverflowError, TypeError, ValueError)
"""What comes of a number or a text that can't even be bound, and of what is no JSON."""

# One statement for many rows costs SQLite half of what as many statements cost. And the driver
# gives up the interpreter at each statement, which a busy event loop gives back late.
_TOGETHER = (40, 8)


@contextmanager
def driven(connection: Connection) -> Iterator[sqlite3.Cursor]:
    """A cursor of the driver's own, in the current transaction.

    Raises:
        DBAPIError: Of the kind that SQLAlchemy would have raised.
    """
    cursor: sqlite3.Cursor = connection.connection.cursor()  # type: ignore[assignment]
    try:
        yield cursor
    except sqlite3.Error as error:
        raise DBAPIError.instance("rows", None, error, sqlite3.Error) from error
    except UNFIT as error:
        raise DataError("rows", None, error) from error
    finally:
        cursor.close()


def insert_columns(
    cursor: sqlite3.Cursor, table: str, names: Names, columns: Sequence[Column], conflict: str = ""
) -> None:
    """Insert rows, at least one.

    Args:
        cursor: In a transaction.
        table: A name of ours: it is not escaped.
        names: The columns', ours too.
        columns: As many as names, of one length.
        conflict: A clause at the end of each statement.
    """
    count = len(columns[0])
    # Few rows are not worth a statement of their own kind.
    shared = tuple(map(_is_shared, columns)) if count >= _TOGETHER[0] else (False,) * len(names)
    varying = [column for column, same in zip(columns, shared, strict=True) if not same]
    rows = list(zip(*varying, strict=True)) if varying else [()] * count
    done = 0
    for together in _TOGETHER:
        statement = None
        while count - done >= together:
            statement = statement or _statement(table, names, shared, together, conflict)
            first = [column[done] for column in columns]
            others = rows[done + 1 : done + together]
            cursor.execute(statement, (*first, *chain.from_iterable(others)))
            done += together
    if done < count:
        single = _statement(table, names, (False,) * len(names), 1, conflict)
        cursor.executemany(single, zip(*(column[done:] for column in columns), strict=True))


def _is_shared(column: Column) -> bool:
    first = column[0]
    # Where values differ, those at the two ends mostly do.
    return first == column[-1] and column.count(first) == len(column)


@lru_cache(maxsize=512)
def _statement(
    table: str, names: Names, shared: tuple[bool, ...], together: int, conflict: str
) -> str:
    """The first row says all of its values; the others say again only where they differ.

    A number is a name to SQLite, and from Python 3.12 on the driver looks up the name of each value
    that it binds, among all names: so only what comes again is numbered.
    """
    first = ", ".join("?" * len(names))
    other = ", ".join(f"?{n}" if same else "?" for n, same in enumerate(shared, 1))
    rows = f"({first})" + f", ({other})" * (together - 1)
    columns = ", ".join(f'"{name}"' for name in names)
    # Names are our own; values are always parameters.
    return f'INSERT INTO "{table}" ({columns}) VALUES {rows}{conflict}'  # noqa: S608
