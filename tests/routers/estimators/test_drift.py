"""Page-Hinkley tests of many streams."""

from __future__ import annotations

import numpy as np
import pytest

from routers.estimators.drift import Alarm, PageHinkley
from routers.records import Floats


def alarms(values_NA: Floats, alarm: Alarm) -> list[tuple[int, int]]:
    """(time, stream) of every alarm."""
    streams = np.arange(values_NA.shape[1])
    watch = PageHinkley.fresh(len(streams))
    return [
        (time, int(stream))
        for time, values_A in enumerate(values_NA)
        for stream in watch.watch(streams, values_A, alarm)
    ]


def shifted(seed: int, at: int = 500, by: float = 0.4) -> Floats:
    values_N2 = np.random.default_rng(seed).normal(0.0, 0.45, (1000, 2))
    values_N2[at:, 1] += by
    return values_N2


@pytest.mark.parametrize("by", [0.4, -0.4])
def test_it_sounds_soon_after_the_mean_moves_and_only_there(by: float) -> None:
    for seed in range(10):
        found = alarms(shifted(seed, by=by), Alarm())
        assert found
        assert found[0][1] == 1
        assert 500 < found[0][0] < 620
        assert {stream for _, stream in found} == {1}


def test_it_stays_silent_while_nothing_moves() -> None:
    steady_NA = np.random.default_rng(1).normal(0.0, 0.45, (5000, 8))
    assert alarms(steady_NA, Alarm()) == []


def test_a_stream_without_a_value_stands_still() -> None:
    watch, both = PageHinkley.fresh(2), np.arange(2)
    watch.watch(both, np.array([0.3, -0.2]), Alarm())
    before = watch.copy()
    watch.watch(both[:1], np.array([0.9]), Alarm())
    for name, array_A in watch.arrays().items():
        assert array_A[1] == before.arrays()[name][1]
    assert watch.rows_A.tolist() == [2.0, 1.0]


@pytest.mark.parametrize("seed", range(3))
def test_it_sounds_exactly_when_that_of_river_does(seed: int) -> None:
    drift = pytest.importorskip("river.drift")
    values_NA = shifted(seed, by=0.8)
    theirs = drift.PageHinkley(min_instances=30, delta=0.005, threshold=15.0)
    expected = []
    for time, value in enumerate(values_NA[:, 1]):
        theirs.update(float(value))
        if theirs.drift_detected:
            expected.append((time, 0))
    assert expected
    found = alarms(values_NA[:, 1:], Alarm(slack=0.005, threshold=15.0, least_rows=30))
    assert found == expected
