"""Many paced streams at once, a third of whose readers leave: nothing lost, nothing left over."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.streams import Load, measured, running


@pytest.mark.parametrize("durability", ["strict", "relaxed"])
def test_two_hundred_streams_a_third_of_them_left(tmp_path: Path, durability: str) -> None:
    settings = {"ledger": {"url": f"sqlite:///{tmp_path}/l.db", "durability": durability}}
    load = Load(200, 0.3, seconds=4, interval_s=0.2, whole=50, settings=settings)
    result = measured(load, 0.0, 0.0, 0.0)
    assert result.faults == []
    assert (result.complete, result.left, result.whole) == (140, 60, 50)
    assert result.frames >= 140 * load.frames


@pytest.mark.slow
def test_a_thousand_streams_a_third_of_them_left() -> None:
    load = Load(1_000, 0.3, seconds=20, interval_s=0.5, whole=50)
    result = measured(load, 0.0, 0.0, 0.0)
    assert result.faults == []
    assert (result.complete, result.left) == (700, 300)


@pytest.mark.slow
def test_thousands_of_requests_leave_no_memory_behind() -> None:
    load = Load(100, 0.3, seconds=1, interval_s=0.1, whole=1_000)
    with running(load) as bench:
        bench.round()
        warm_mb = bench.rss_mb()
        for _ in range(5):
            bench.round()
        assert bench.rss_mb() - warm_mb < 20
    assert bench.result.faults == []
