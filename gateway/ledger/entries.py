"""Rows that go together into the ledger, and who hears of them."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from gateway.errors import LedgerError
from gateway.ledger.briefs import Briefs
from gateway.ledger.spool import Rows

Then = Callable[[LedgerError | None], None]
"""Hears that rows are on disk, or why they will never be."""

Entry = tuple[Rows, Then | None, asyncio.AbstractEventLoop | None, bool]
"""Rows that go together, who hears of them where, and whether the spool's disk is not enough."""


class Waiting:
    """What waits to be written, in its order; event loops add to it, the writer takes.

    Attributes:
        briefs: Those that wait; one event loop adds to them.
    """

    def __init__(self) -> None:
        self.briefs = Briefs()
        self._entries: deque[Entry] = deque()
        self._rows = 0
        self._lock = threading.Lock()

    def __bool__(self) -> bool:
        return bool(self._entries or self.briefs)

    @property
    def rows(self) -> int:
        """How many are not settled, those that are just being written too."""
        return self._rows + self.briefs.rows

    def add(self, entry: Entry, *, first: bool = False) -> None:
        """Queue it, behind all others or `first` of all."""
        with self._lock:
            if first:
                self._entries.appendleft(entry)
            else:
                self._entries.append(entry)
            self._rows += len(entry[0])

    def take(self, most_rows: int) -> tuple[list[Entry], Briefs]:
        """The oldest entries, about so many rows, and all briefs; they count until settled."""
        batch: list[Entry] = []
        size = 0
        with self._lock:
            while self._entries and size < most_rows:
                batch.append(self._entries.popleft())
                size += len(batch[-1][0])
        # Behind the rows: those refer to what was announced before them, never the other way.
        briefs = self.briefs.take()
        self.count(briefs.rows)
        return batch, briefs

    def count(self, rows: int) -> None:
        """So many rows more are not settled, or so many fewer."""
        with self._lock:
            self._rows += rows


def tell(entries: Iterable[Entry], error: LedgerError | None) -> None:
    """Tell everybody how it ended, each on their own event loop; from the writer's thread."""
    waiting: dict[asyncio.AbstractEventLoop, list[Then]] = {}
    for _, then, where, _ in entries:
        if then is not None and where is not None:
            waiting.setdefault(where, []).append(then)
    for loop, thens in waiting.items():
        try:
            loop.call_soon_threadsafe(_tell, thens, error)
        except RuntimeError:
            # The loop is closed; whoever waited there is gone.
            continue


def _tell(thens: Sequence[Then], error: LedgerError | None) -> None:
    for then in thens:
        then(error)
