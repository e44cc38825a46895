"""Rows on the local disk while the database is away: a file of entries, oldest first."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import orjson

from gateway.ids import new_id
from gateway.ledger import tables
from gateway.ledger.bulk import UNFIT
from gateway.ledger.rows import Row, json_text

_SUFFIX = ".rows"
_AT_ONCE = 400

Rows = tuple[Row, ...]
"""What is written together or not at all."""


class Spool:
    """One process's file. What it was given is on the disk, and stays there until it is taken.

    Nobody else reads it while its process lives. For one thread.

    Args:
        folder: Where the file is made, once there is something to keep.
        max_bytes: Of the file.

    Attributes:
        rows: In it, and not in the database.
        bytes: Its size.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.rows = self.bytes = 0
        self._folder = folder
        self._max_bytes = max_bytes
        self._path: Path | None = None
        self._file = -1
        self._taken = 0
        self._since = 0.0

    def age_s(self) -> float:
        """Since when there has been something in it."""
        return time.monotonic() - self._since if self.rows else 0.0

    def put(self, entries: Sequence[Rows]) -> bool:
        """Keep entries; returns when they are on the disk.

        Returns:
            Whether they are. If not, nothing of them is: no room is left, in the file or on the
            disk, or it can't be written, or they can't.
        """
        try:
            lines = b"".join(_line(rows) for rows in entries)
        except UNFIT:
            # The database is going to refuse it, whenever it is there again.
            return False
        if self.bytes + len(lines) > self._max_bytes:
            return False
        try:
            if self._file < 0:
                self._make()
            _write(self._file, lines)
        except OSError:
            if self._file >= 0:
                # The beginning of a line is no entry; what is whole would be written twice.
                os.ftruncate(self._file, self.bytes)
            return False
        if not self.rows:
            self._since = time.monotonic()
        self.bytes += len(lines)
        self.rows += sum(map(len, entries))
        return True

    def take(self, write: Callable[[Sequence[Rows]], None]) -> None:
        """Hand the oldest entries to `write`; when it returns, they are there no more.

        A crash in between gives them again: rows are known by their ids.
        """
        with os.fdopen(os.dup(self._file), "rb") as file:
            file.seek(self._taken)
            lines = list(islice(file, _AT_ONCE))
        entries = list(_entries(lines))
        write(entries)
        self._taken += sum(map(len, lines))
        self.rows -= sum(map(len, entries))
        if self._taken >= self.bytes:
            self._empty()

    def close(self) -> None:
        """Leave the file to the next process, or nothing if nothing is in it."""
        if self._file >= 0:
            if not self.rows and self._path is not None:
                self._path.unlink(missing_ok=True)
            os.close(self._file)
            self._file = -1

    def _make(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = self._folder / new_id("rows")
        file = os.open(name, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_EXCL, 0o600)
        try:
            # Nobody may find it before it is locked.
            fcntl.flock(file, fcntl.LOCK_EX)
            self._path = name.rename(name.with_suffix(_SUFFIX))
            _sync_folder(self._folder)
        except OSError:
            os.close(file)
            raise
        self._file = file

    def _adopt(self, path: Path) -> bool:
        """Whether this file, of a process that is no more, is ours now."""
        try:
            file = os.open(path, os.O_RDWR | os.O_APPEND)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return False
        self._path, self._file, self._since = path, file, time.monotonic()
        with path.open("rb") as lines:
            for line in lines:
                if not line.endswith(b"\n"):
                    # The crash cut it off: nobody was told that it is kept.
                    break
                self.bytes += len(line)
                self.rows += sum(map(len, _entries([line])))
        os.ftruncate(file, self.bytes)
        return True

    def _empty(self) -> None:
        os.ftruncate(self._file, 0)
        self.bytes = self.rows = self._taken = 0


class Spools:
    """This process's spool, behind those that others left when they died.

    Args:
        folder: Of all processes that write to this database.
        max_bytes: Of one process's file.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._own = Spool(folder, max_bytes)
        self._left = list(_left_behind(folder))

    @property
    def rows(self) -> int:
        """Rows that are not in the database."""
        return sum(spool.rows for spool in self._all())

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(spool.bytes for spool in self._all())

    def age_s(self) -> float:
        """Since when there has been something in one of them."""
        return max(spool.age_s() for spool in self._all())

    def put(self, entries: Sequence[Rows]) -> bool:
        """See `Spool.put`."""
        return self._own.put(entries)

    def take(self, write: Callable[[Sequence[Rows]], None]) -> None:
        """See `Spool.take`; does nothing when there is nothing."""
        oldest = next((spool for spool in self._all() if spool.rows), None)
        if oldest is not None:
            oldest.take(write)
        while self._left and not self._left[0].rows:
            self._left.pop(0).close()

    def close(self) -> None:
        """Leave what is not in the database to the next process."""
        for spool in self._all():
            spool.close()

    def _all(self) -> Sequence[Spool]:
        return [*self._left, self._own] if self._left else (self._own,)


def _left_behind(folder: Path) -> Iterator[Spool]:
    for path in sorted(folder.glob(f"*{_SUFFIX}")):
        spool = Spool(folder, 0)
        if spool._adopt(path):
            yield spool


def _line(rows: Rows) -> bytes:
    said = [[row.table.name, row.once, row.values] for row in rows]
    return json_text(said).encode() + b"\n"


def _entries(lines: Sequence[bytes]) -> Iterator[Rows]:
    named = tables.metadata.tables
    for line in lines:
        # Written before, perhaps, and only not struck off: every row may be there already.
        yield tuple(Row(named[name], values, True) for name, _, values in orjson.loads(line))


def _write(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
    os.fsync(file)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
