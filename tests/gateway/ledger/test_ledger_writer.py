"""How rows get into SQLite many at a time, and who waits for whom when there are too many."""

from __future__ import annotations

import asyncio
import sqlite3
from itertools import count
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from sqlalchemy import event, select
from sqlalchemy.exc import IntegrityError

from gateway.ledger import tables
from gateway.ledger.bulk import driven, insert_columns
from gateway.ledger.database import certain, open_database
from gateway.ledger.rows import Row
from gateway.ledger.store import Ledger

NAMES = ("id", "same", "none", "now_and_then", "yes", "weight")


def columns_of(rows: int) -> list[list[Any]]:
    """One that varies, two that don't, and three of which it takes a look to see."""
    varying = range(rows)
    return [
        [f"row {n}" for n in varying],
        ["it's %s"] * rows,
        [None] * rows,
        [None if n % 3 else n for n in varying],
        [n != 17 for n in varying],
        [0.1 * n for n in varying],
    ]


@pytest.mark.parametrize("rows", [1, 7, 8, 39, 40, 41, 130])
def test_rows_are_what_their_columns_said_however_many_there_are(rows: int) -> None:
    connection = sqlite3.connect(":memory:")
    cursor = connection.cursor()
    cursor.execute(f"CREATE TABLE kept ({', '.join(NAMES)})")
    columns = columns_of(rows)
    insert_columns(cursor, "kept", NAMES, columns)
    read = cursor.execute(f"SELECT {', '.join(NAMES)} FROM kept ORDER BY rowid").fetchall()  # noqa: S608
    connection.close()
    assert read == list(zip(*columns, strict=True))


def test_rows_of_nothing_but_what_they_share_are_all_there() -> None:
    connection = sqlite3.connect(":memory:")
    cursor = connection.cursor()
    cursor.execute("CREATE TABLE kept (a, b)")
    insert_columns(cursor, "kept", ("a", "b"), [[1] * 50, [None] * 50])
    assert cursor.execute("SELECT a, b FROM kept").fetchall() == [(1, None)] * 50
    connection.close()


def test_a_refusal_of_the_driver_is_told_as_sqlalchemy_tells_it(tmp_path: Path) -> None:
    engine = open_database(f"sqlite:///{tmp_path}/ledger.db")
    with (
        pytest.raises(IntegrityError, match="NOT NULL"),
        engine.begin() as connection,
        driven(connection) as cursor,
    ):
        insert_columns(cursor, "guard_action", ("action_id",), [["act-1"]])
    engine.dispose()


def test_references_are_looked_up_or_not_as_each_asks_and_it_is_said_when_that_changes(
    tmp_path: Path,
) -> None:
    engine = open_database(f"sqlite:///{tmp_path}/ledger.db")
    said: list[str] = []

    @event.listens_for(engine, "before_cursor_execute")
    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        # Each time SQLite compiles all statements anew, which took a third of the writer's time.
        said.extend([statement] if "foreign_keys=" in statement else [])

    looked_up = []
    for asking in (certain(engine), certain(engine), engine, engine, certain(engine)):
        with asking.begin() as connection:
            looked_up.append(connection.exec_driver_sql("PRAGMA foreign_keys").scalar())
    engine.dispose()
    assert looked_up == [0, 0, 1, 1, 0]
    assert [statement[-3:] for statement in said] == ["OFF", "=ON", "OFF"]


def an_action(number: int) -> Row:
    values: dict[str, Any] = {
        "action_id": f"act-{number:06}", "request_id": None, "at": float(number), "key_name": "k",
        "guard": "g", "side": "input", "action": "flag", "found": {},
    }  # fmt: skip
    return Row(tables.guard_action, values)


@pytest.mark.parametrize("cannot_be_bound", [2**63, "\ud800"])
def test_a_row_that_the_driver_cannot_even_bind_is_refused_and_the_others_are_written(
    tmp_path: Path, cannot_be_bound: object
) -> None:
    ledger = Ledger(open_database(f"sqlite:///{tmp_path}/ledger.db"), strict=False)
    before, sound, after = map(an_action, range(3))
    broken = sound._replace(values={**sound.values, "guard": cannot_be_bound})

    async def written() -> None:
        for row in (before, broken, after):
            ledger.append([row])
        await ledger.flush()

    try:
        asyncio.run(asyncio.wait_for(written(), 20))
        with ledger.engine.connect() as connection:
            kept = connection.execute(select(tables.guard_action.c.action_id)).scalars().all()
    finally:
        ledger.close()
    assert set(kept) == {"act-000000", "act-000002"}
    assert ledger.lost_rows == 1


def test_who_is_held_back_comes_in_when_there_is_room_and_not_when_all_is_written(
    tmp_path: Path,
) -> None:
    engine = open_database(f"sqlite:///{tmp_path}/ledger.db")
    commits, first_taken, all_queued, end = count(), Event(), Event(), Event()

    @event.listens_for(engine, "commit")
    def hold_all_but_two(_: object) -> None:
        first_taken.set()
        (all_queued if next(commits) < 2 else end).wait(30)

    ledger = Ledger(engine, strict=False, max_pending=20_000)

    async def held_back() -> int:
        ledger.append(map(an_action, range(20_000)))
        await asyncio.to_thread(first_taken.wait, 30)
        for number in range(20_000, 42_500):
            ledger.append([an_action(number)])
        admitted = asyncio.create_task(ledger.admit())
        await asyncio.sleep(0)
        all_queued.set()
        await asyncio.wait_for(admitted, 20)
        pending = ledger.pending
        end.set()
        await ledger.flush()
        return pending

    try:
        assert asyncio.run(held_back()) == 12_500
    finally:
        all_queued.set()
        end.set()
        ledger.close()
    assert (ledger.pending, ledger.lost_rows) == (0, 0)
