"""The ledger's writer: one thread, one transaction for all that has queued meanwhile."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, Insert, Table, insert
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, IntegrityError

from gateway.errors import LedgerError
from gateway.ledger import tables
from gateway.ledger.rows import Row

_log = logging.getLogger(__name__)
_MAX_BATCH_ROWS = 2_000
_RETRY_S = (0.05, 0.1, 0.2, 0.5, 1.0)


@dataclass(frozen=True, slots=True)
class _Entry:
    rows: tuple[Row, ...]
    done: Future[None]


class Ledger:
    """Appends rows in order, in groups; the caller chooses whether to wait for the disk.

    Rows of one `append` are written together or not at all. When the database is away the writer
    keeps what it has and tries again; new requests wait at `admit`, so memory stays bounded.

    Args:
        engine: From `open_database`.
        strict: Whether `commit` waits until its rows are on disk.
        max_pending: Rows waiting before `admit` holds new requests back.
    """

    def __init__(self, engine: Engine, *, strict: bool = True, max_pending: int = 10_000) -> None:
        self._engine = engine
        self._strict = strict
        self._max_pending = max_pending
        self._entries: deque[_Entry] = deque()
        self._pending_rows = 0
        self._wake = threading.Condition()
        self._closing = False
        self._close_asked = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)
        self._thread.start()

    @property
    def engine(self) -> Engine:
        return self._engine

    @property
    def pending(self) -> int:
        """Rows that are not on disk yet."""
        return self._pending_rows

    def append(self, rows: Iterable[Row]) -> Future[None]:
        """Queue rows; the future is done when they are on disk. Never blocks."""
        entry = _Entry(tuple(rows), Future())
        with self._wake:
            if self._closing:
                raise LedgerError("the ledger is closed")
            self._entries.append(entry)
            self._pending_rows += len(entry.rows)
            self._wake.notify()
        return entry.done

    async def commit(self, rows: Iterable[Row]) -> None:
        """Append, and in strict mode wait for the disk."""
        done = self.append(rows)
        if self._strict:
            await asyncio.wrap_future(done)

    async def admit(self) -> None:
        """Wait while too much is waiting to be written."""
        while self._pending_rows > self._max_pending:
            await self.flush()

    async def flush(self) -> None:
        """Wait until everything appended so far is on disk."""
        await asyncio.wrap_future(self.append(()))

    def close(self) -> None:
        """Write what is left and stop."""
        with self._wake:
            self._closing = True
            self._close_asked.set()
            self._wake.notify()
        self._thread.join()
        self._engine.dispose()

    def _run(self) -> None:
        while batch := self._next_batch():
            self._write_until_done(batch)

    def _next_batch(self) -> list[_Entry]:
        with self._wake:
            while not self._entries and not self._closing:
                self._wake.wait()
            batch: list[_Entry] = []
            size = 0
            while self._entries and size < _MAX_BATCH_ROWS:
                batch.append(self._entries.popleft())
                size += len(batch[-1].rows)
            return batch

    def _write_until_done(self, batch: Sequence[_Entry]) -> None:
        tries = 0
        while True:
            try:
                self._write(batch)
            except IntegrityError as error:
                self._write_apart(batch, error)
                return
            except DBAPIError as error:
                _log.warning("ledger write failed, %d entries wait: %s", len(batch), error.orig)
                if self._gives_up(tries):
                    self._settle(batch, LedgerError(f"the ledger can't be written: {error.orig}"))
                    return
                tries += 1
            else:
                self._settle(batch, None)
                return

    def _gives_up(self, tries: int) -> bool:
        closing = self._close_asked.wait(_RETRY_S[min(tries, len(_RETRY_S) - 1)])
        return closing and tries >= len(_RETRY_S)

    def _write_apart(self, batch: Sequence[_Entry], error: IntegrityError) -> None:
        """One entry breaks a rule of the schema: find it, write the others."""
        if len(batch) == 1:
            _log.error("ledger refused %d rows: %s", len(batch[0].rows), error.orig)
            self._settle(batch, LedgerError(f"the ledger refused a row: {error.orig}"))
            return
        for entry in batch:
            self._write_until_done([entry])

    def _write(self, batch: Sequence[_Entry]) -> None:
        by_table: dict[tuple[Table, bool], list[dict[str, Any]]] = {}
        for entry in batch:
            for row in entry.rows:
                by_table.setdefault((row.table, row.once), []).append(dict(row.values))
        if not by_table:
            return
        with self._engine.begin() as connection:
            # Parents before children, for the foreign keys.
            for table in tables.metadata.sorted_tables:
                for once in (True, False):
                    if values := by_table.get((table, once)):
                        connection.execute(_statement(connection, table, once), values)

    def _settle(self, batch: Sequence[_Entry], error: LedgerError | None) -> None:
        with self._wake:
            self._pending_rows -= sum(len(entry.rows) for entry in batch)
        for entry in batch:
            # A cancelled waiter has cancelled its future; its rows are written all the same.
            if not entry.done.set_running_or_notify_cancel():
                continue
            if error is None:
                entry.done.set_result(None)
            else:
                entry.done.set_exception(error)


def _statement(connection: Connection, table: Table, once: bool) -> Insert:
    if not once:
        return insert(table)
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table).on_conflict_do_nothing()
    return sqlite.insert(table).on_conflict_do_nothing()
