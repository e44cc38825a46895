"""Rows that go together into the ledger, and who hears of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

from gateway.errors import LedgerError
from gateway.ledger.spool import Rows

Then = Callable[[LedgerError | None], None]
"""Hears that rows are on disk, or why they will never be."""

Entry = tuple[Rows, Then | None, asyncio.AbstractEventLoop | None, bool]
"""Rows that go together, who hears of them where, and whether the spool's disk is not enough."""


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
