"""The ledger's writer: one thread, one transaction for all that has queued meanwhile."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Collection, Iterable, Sequence
from itertools import chain

from sqlalchemy import Engine
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError

from gateway.errors import LedgerError
from gateway.ledger.briefs import Briefs, Closing, Opening
from gateway.ledger.database import hurried
from gateway.ledger.entries import Entry, Then, Waiting, tell
from gateway.ledger.inserts import KnownRows, fitting, grouped, insert
from gateway.ledger.rows import Row
from gateway.ledger.spool import Rows, Spools
from gateway.ledger.staged import write_briefs

_log = logging.getLogger(__name__)
_MAX_BATCH_ROWS = 10_000
_RETRY_S = (0.05, 0.1, 0.2, 0.5, 1.0)
# Nobody waits for rows in relaxed mode; larger groups cost less for each row.
_RELAXED_GATHER_S = 0.05

# Of the row, not of the database: trying again is of no use.
_REFUSALS = (IntegrityError, DataError)


class Ledger:
    """Appends rows in order, in groups; the caller chooses whether to wait for the disk.

    Rows of one `append` are written together or not at all. When the database is away they are put
    aside on the local disk, which counts as the disk, and taken back in their order when it is
    there again. When that has no room the writer keeps what it has and tries again; new requests
    wait at `admit`, so memory stays bounded.

    Args:
        engine: From `open_database`.
        strict: Whether `commit` waits until its rows are on disk.
        max_pending: Rows waiting before `admit` holds new requests back.
        spools: Where rows are put aside; None: nowhere.

    Attributes:
        spools: As given.
        lost_rows: Rows that the database refused, or that were left when it was away at the end.
        failed_writes: Writes that failed and were tried again.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        strict: bool = True,
        max_pending: int = 40_000,
        spools: Spools | None = None,
    ) -> None:
        self._engine = engine
        # Who can put rows aside need not wait for long.
        self._writing = hurried(engine) if spools else engine
        self._strict = strict
        self._staged = engine.dialect.name == "sqlite"
        self._max_pending = max_pending
        self.spools = spools
        self._waiting = Waiting()
        self._known = KnownRows()
        self._awake = threading.Event()
        self._hurry = False
        self._closing = False
        self._close_asked = threading.Event()
        self._taken = self._written_to = time.monotonic()
        self._unwritten: list[Entry] = []
        self._misses, self._next_try = 0, 0.0
        self.lost_rows = 0
        self.failed_writes = 0
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)
        self._thread.start()

    @property
    def engine(self) -> Engine:
        return self._engine

    @property
    def pending(self) -> int:
        """Rows that are not on disk yet."""
        return self._waiting.rows

    @property
    def pressed(self) -> bool:
        """Whether so much waits that new requests have to."""
        return self._waiting.rows > self._max_pending

    def lag_s(self) -> float:
        """Age of the oldest row that is not on disk, at most; 0 when all are."""
        return time.monotonic() - self._written_to if self.pending else 0.0

    def open(self, opening: Opening) -> None:
        """Queue what is announced; on the event loop only. `commit_then` waits for the disk."""
        if self._closing:
            raise LedgerError("the ledger is closed")
        self._waiting.briefs.open(opening)
        if not self._awake.is_set():
            self._awake.set()

    def shut(self, closing: Closing) -> None:
        """Queue how it ended; on the event loop only."""
        if self._closing:
            raise LedgerError("the ledger is closed")
        self._waiting.briefs.shut(closing)
        if not self._awake.is_set():
            self._awake.set()

    def append(self, rows: Iterable[Row]) -> None:
        """Queue rows. Never blocks."""
        self._queue(tuple(rows))

    def append_then(self, rows: Iterable[Row], then: Then) -> None:
        """Queue rows; `then` is called on the running event loop when they are on disk."""
        self._queue(tuple(rows), then, asyncio.get_running_loop())

    def relieved_then(self, then: Then) -> None:
        """`then` is called on the running event loop when some of what waits is on disk.

        Not all of it: until that were so, nobody would add to what the writer has to do.
        """
        self._queue((), then, asyncio.get_running_loop(), first=True)

    def commit_then(self, rows: Collection[Row], then: Then) -> bool:
        """Queue rows; in strict mode `then` is called when they are on disk.

        Returns:
            Whether `then` will be called; False means that there is nothing to wait for.
        """
        if self._strict:
            self.append_then(rows, then)
        elif rows:
            self.append(rows)
        return self._strict

    async def commit(self, rows: Iterable[Row]) -> None:
        """Queue rows, and in strict mode wait for the disk."""
        if self._strict:
            await self._written(rows)
        else:
            self.append(rows)

    async def admit(self) -> None:
        """Wait while too much is waiting to be written."""
        while self.pressed:
            await self._written((), first=True)

    async def flush(self) -> None:
        """Wait until everything appended so far is in the database.

        Raises:
            LedgerError: The database is away, and some of it is put aside.
        """
        await self._written((), in_database=True)

    def close(self) -> None:
        """Write what is left and stop; what is put aside stays there for the next process."""
        self._closing = True
        self._close_asked.set()
        self._awake.set()
        self._thread.join()
        if self.spools:
            self.spools.close()
        self._engine.dispose()

    async def _written(
        self, rows: Iterable[Row], *, in_database: bool = False, first: bool = False
    ) -> None:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def settle(error: LedgerError | None) -> None:
            # Who waited may have been cancelled; the rows are written all the same.
            if done.done():
                return
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)

        self._queue(tuple(rows), settle, loop, in_database=in_database, first=first)
        await done

    def _queue(
        self,
        rows: Rows,
        then: Then | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
        *,
        in_database: bool = False,
        first: bool = False,
    ) -> None:
        if self._closing:
            raise LedgerError("the ledger is closed")
        self._waiting.add((rows, then, loop, in_database), first=first)
        if then is not None:
            self._hurry = True
            self._awake.set()
        elif not self._awake.is_set():
            self._awake.set()

    def _run(self) -> None:
        while (batch := self._next_batch()) is not None:
            entries, briefs = batch
            if briefs and self._written_at_once(entries, briefs):
                entries = []
            elif briefs:
                entries = [*self._entries_of(briefs), *entries]
            if entries:
                self._deliver(entries)
            self._take_back()
        self._settle_unwritten(LedgerError("the ledger is closed"))

    def _next_batch(self) -> tuple[list[Entry], Briefs] | None:
        """What has queued; nothing when it is time to look after what was put aside.

        None when the ledger is closed and all is written that can be.
        """
        while not self._waiting and not self._closing:
            self._awake.wait(self._until_next_try_s())
            # Until this moment nothing waited.
            self._written_to = time.monotonic()
            if not self._waiting:
                # What came for the last batch has gone with it. Looked at again before waiting.
                self._awake.clear()
                if self._put_aside_rows:
                    return [], Briefs()
        if not self._waiting:
            return ([], Briefs()) if self._put_aside_rows and not self._misses else None
        self._gather()
        # Not before: who appends while more is gathered need not wake anybody.
        self._awake.clear()
        self._taken = time.monotonic()
        return self._waiting.take(_MAX_BATCH_ROWS)

    def _written_at_once(self, entries: Sequence[Entry], briefs: Briefs) -> bool:
        """Write all of it the quick way; False: nothing of it is written."""
        if not self._staged or self._put_aside_rows:
            return False
        try:
            write_briefs(self._writing, briefs, self._known, [entry[0] for entry in entries])
        except DBAPIError:
            # Whatever it was, it is found out row by row.
            return False
        self._settle(entries, None, briefs.rows)
        return True

    def _entries_of(self, briefs: Briefs) -> list[Entry]:
        entries: list[Entry] = [(rows, None, None, False) for rows in briefs.entries()]
        self._waiting.count(sum(len(entry[0]) for entry in entries) - briefs.rows)
        return entries

    def _gather(self) -> None:
        enough = self.pending >= _MAX_BATCH_ROWS
        if self._strict or self._closing or self._hurry or enough:
            self._hurry = False
            return
        self._close_asked.wait(_RELAXED_GATHER_S)

    @property
    def _put_aside_rows(self) -> int:
        return self.spools.rows if self.spools else 0

    def _until_next_try_s(self) -> float | None:
        if not self._put_aside_rows:
            return None
        return max(0.0, self._next_try - time.monotonic())

    def _deliver(self, batch: Sequence[Entry]) -> None:
        """To the database; behind what was put aside, if anything was."""
        if self._put_aside_rows and self._put_aside(batch):
            return
        while self._put_aside_rows:
            # No room: what is older goes first, whenever that is.
            self._take_back()
            if self._misses and self._gives_up(self._misses):
                self._settle(batch, LedgerError("the ledger can't be written"))
                return
        self._write_until_done(batch)

    def _write_until_done(self, batch: Sequence[Entry]) -> None:
        tries = 0
        while True:
            try:
                self._write([entry[0] for entry in batch])
            except _REFUSALS as error:
                self._write_apart(batch, error)
                return
            except DBAPIError as error:
                self.failed_writes += 1
                _log.warning("ledger write failed, %d entries wait: %s", len(batch), error.orig)
                if self._put_aside(batch):
                    self._missed()
                    return
                if self._gives_up(tries):
                    self._settle(batch, LedgerError(f"the ledger can't be written: {error.orig}"))
                    return
                tries += 1
            else:
                self._settle(batch, None)
                return

    def _gives_up(self, tries: int) -> bool:
        closing = self._close_asked.wait(_pause_s(tries))
        return closing and tries >= len(_RETRY_S)

    def _put_aside(self, batch: Sequence[Entry]) -> bool:
        """Whether the local disk has it now."""
        if self.spools is None or not self.spools.put([entry[0] for entry in batch if entry[0]]):
            return False
        self._unwritten += [entry for entry in batch if entry[3]]
        self._settle([entry for entry in batch if not entry[3]], None)
        return True

    def _take_back(self) -> None:
        """Write some of what was put aside, if it is time to try."""
        if not self.spools or not self.spools.rows or time.monotonic() < self._next_try:
            return
        try:
            self.spools.take(self._write_again)
        except DBAPIError as error:
            self.failed_writes += 1
            self._missed()
            self._settle_unwritten(LedgerError(f"the ledger can't be written: {error.orig}"))
            return
        self._misses, self._next_try = 0, 0.0
        if not self.spools.rows:
            _log.warning("the ledger has all rows that were put aside")
            self._settle_unwritten(None)

    def _missed(self) -> None:
        self._next_try = time.monotonic() + _pause_s(self._misses)
        self._misses += 1

    def _settle_unwritten(self, error: LedgerError | None) -> None:
        batch, self._unwritten = self._unwritten, []
        self._settle(batch, error)

    def _write_again(self, entries: Sequence[Rows]) -> None:
        """Rows from the disk, which nobody waits for; those of them that are there stay."""
        try:
            self._write(entries, new=False)
        except _REFUSALS:
            for rows in entries:
                try:
                    self._write([fitting(rows) or rows], new=False)
                except _REFUSALS as error:
                    self.lost_rows += len(rows)
                    _log.error("ledger refused %d rows: %s", len(rows), error.orig)

    def _write_apart(self, batch: Sequence[Entry], error: DBAPIError) -> None:
        """One entry breaks a rule of the schema: find it, write the others."""
        if len(batch) == 1:
            rows = batch[0][0]
            if isinstance(error, DataError) and (shorter := fitting(rows)):
                self._write_until_done([(shorter, *batch[0][1:])])
                return
            _log.error("ledger refused %d rows: %s", len(rows), error.orig)
            # What refers to them has to be refused too, so each row is looked at from now on.
            self._staged = False
            self._settle(batch, LedgerError(f"the ledger refused a row: {error.orig}"))
            return
        for entry in batch:
            self._write_until_done([entry])

    def _write(self, entries: Sequence[Rows], *, new: bool = True) -> None:
        groups = grouped(chain.from_iterable(entries))
        once = self._known.fresh(groups) if new else []
        if any(groups.values()):
            with self._writing.begin() as connection:
                insert(connection, groups)
            self._known.add(once)

    def _settle(self, batch: Sequence[Entry], error: LedgerError | None, briefs: int = 0) -> None:
        settled = briefs + sum(len(entry[0]) for entry in batch)
        self._written_to = self._taken
        if error is not None:
            self.lost_rows += settled
        self._waiting.count(-settled)
        tell(batch, error)


def _pause_s(tries: int) -> float:
    return _RETRY_S[min(tries, len(_RETRY_S) - 1)]
