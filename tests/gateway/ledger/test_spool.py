"""What one process keeps on its disk while the database is away."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.ledger import tables
from gateway.ledger.rows import Row
from gateway.ledger.spool import Rows, Spool

ROOM = 1 << 20


def entry(number: int) -> Rows:
    return (Row(tables.request, {"request_id": f"req-{number}"}),)


def taken(spool: Spool) -> list[str]:
    """Ids of the next ones, taken as the ledger takes them."""
    found: list[str] = []

    def write(entries: Sequence[Rows]) -> None:
        found.extend(str(row.values["request_id"]) for rows in entries for row in rows)

    spool.take(write)
    return found


def test_what_is_kept_is_taken_a_part_at_a_time_and_in_its_order(tmp_path: Path) -> None:
    spool = Spool(tmp_path, ROOM)
    numbers = [f"req-{number}" for number in range(450)]
    assert spool.put([entry(number) for number in range(440)])
    found = taken(spool)
    assert 0 < spool.rows == 440 - len(found) < 440
    assert spool.put([entry(number) for number in range(440, 450)])
    while spool.rows:
        found += taken(spool)
    assert found == numbers
    assert spool.bytes == 0
    spool.close()
    assert list(tmp_path.iterdir()) == []


def test_what_could_not_be_written_is_not_there_in_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path, ROOM)
    assert spool.put([entry(0)])
    write = os.write

    def full(file: int, data: Any) -> int:
        write(file, bytes(data)[:9])
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.write", full)
        assert not spool.put([entry(1)])
    assert spool.put([entry(2)])
    assert taken(spool) == ["req-0", "req-2"]
    spool.close()


def test_it_is_on_the_disk_before_anybody_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, synced, sync = Spool(tmp_path, ROOM), list[os.stat_result](), os.fsync

    def noted(file: int) -> None:
        synced.append(os.fstat(file))
        sync(file)

    monkeypatch.setattr("os.fsync", noted)
    for number in range(2):
        assert spool.put([entry(number)])
        assert synced[-1].st_size == spool.bytes > 0
    # Nor is a file there that its folder does not know of.
    assert synced[0].st_ino == tmp_path.stat().st_ino
    spool.close()


def test_it_is_as_old_as_the_first_that_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr("gateway.ledger.spool.time", SimpleNamespace(monotonic=lambda: clock[0]))
    spool = Spool(tmp_path, ROOM)
    assert spool.age_s() == 0
    spool.put([entry(0)])
    clock[0] = 107.0
    spool.put([entry(1)])
    assert spool.age_s() == 7
    taken(spool)
    assert spool.age_s() == 0
    spool.close()


def test_nobody_else_on_the_machine_can_read_it(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", ROOM)
    spool.put([entry(0)])
    for path in (tmp_path / "spool", *(tmp_path / "spool").iterdir()):
        assert path.stat().st_mode & 0o077 == 0
    spool.close()


def test_one_that_had_nothing_to_keep_closes_and_leaves_nothing(tmp_path: Path) -> None:
    Spool(tmp_path / "spool", ROOM).close()
    assert not (tmp_path / "spool").exists()
