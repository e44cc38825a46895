"""Many paced streams at once, a third of whose readers leave: nothing lost, nothing left over."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.streams import Load, measured, running


@pytest.mark.parametrize(
    ("durability", "fast_path"), [("strict", True), ("strict", False), ("relaxed", True)]
)
def test_two_hundred_streams_a_third_of_them_left(
    tmp_path: Path, durability: str, fast_path: bool
) -> None:
    ledger = {"url": f"sqlite:///{tmp_path}/l.db", "durability": durability}
    settings = {"ledger": ledger, "server": {"fast_path": fast_path}}
    load = Load(200, 0.3, seconds=4, interval_s=0.2, whole=50, settings=settings)
    result = measured(load, 0.0, 0.0, 0.0)
    assert result.faults == []
    assert (result.complete, result.left, result.whole) == (140, 60, 50)
    assert result.frames >= 140 * load.frames


@pytest.mark.slow
@pytest.mark.parametrize("fast_path", [True, False])
def test_a_thousand_streams_a_third_of_them_left(fast_path: bool) -> None:
    settings = {"server": {"fast_path": fast_path}}
    load = Load(1_000, 0.3, seconds=15, interval_s=0.5, whole=50, settings=settings)
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
