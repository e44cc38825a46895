from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import anyio
import pytest
from anyio.lowlevel import checkpoint

from experts.cards import ExpertCard, Prices
from gateway.ledger import tables
from gateway.ledger.rows import Row
from gateway.ledger.store import Ledger
from gateway.shadows.books import ShadowBooks
from gateway.telemetry.redaction import Redactor


class SlowDisk:
    """A ledger that writes what it was given, but never says so."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    async def commit(self, rows: Sequence[Row]) -> None:
        self.rows += rows
        await anyio.sleep_forever()

    def append(self, rows: Sequence[Row]) -> None:
        self.rows += rows


@pytest.mark.anyio
async def test_a_call_that_gives_way_while_the_disk_is_waited_for_does_not_stay_open() -> None:
    ledger = SlowDisk()
    books = ShadowBooks(cast("Ledger", ledger), "dec-1", Redactor(()))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(books.begin, ExpertCard("e", prices=Prices(1, 2)))
        while not ledger.rows:
            await checkpoint()
        tasks.cancel_scope.cancel()
    [call] = [row.values for row in ledger.rows if row.table is tables.shadow_call]
    [result] = [row.values for row in ledger.rows if row.table is tables.shadow_result]
    assert (result["call_id"], result["status"]) == (call["call_id"], "not_sent")
