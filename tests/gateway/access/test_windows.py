"""Sliding windows: never more than the limit in any period, and no refusal without need."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.meters import Meter
from gateway.access.windows import BUCKETS, WindowFullError, Windows
from gateway.settings.access import Limit

MINUTE = 60.0
PART = MINUTE / BUCKETS


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def meter(amount: int, unit: str = "requests", per: str = "minute", owner: str = "k") -> Meter:
    return Meter("key", owner, Limit.model_validate({unit: amount, "per": per}))


@given(
    st.integers(1, 8),
    st.lists(st.tuples(st.floats(0, 40), st.integers(1, 4)), max_size=40),
)
def test_no_minute_holds_more_than_the_limit_and_none_refuses_without_need(
    amount: int, asked: list[tuple[float, int]]
) -> None:
    clock, limit = Clock(), meter(amount, "tokens")
    windows = Windows(clock)
    taken: list[tuple[float, int]] = []
    for wait_s, cost in asked:
        clock.now += wait_s
        sure = sum(c for at, c in taken if at > clock.now - MINUTE)
        maybe = sum(c for at, c in taken if at > clock.now - MINUTE - PART - 1e-6)
        try:
            windows.take([(limit, cost)])
        except WindowFullError:
            assert maybe + cost > amount
            continue
        taken.append((clock.now, cost))
        assert sure + cost <= amount


@given(
    st.integers(1, 8),
    st.lists(st.tuples(st.floats(0, 20), st.integers(1, 4)), max_size=30),
    st.integers(1, 8),
)
def test_the_wait_that_is_said_is_enough_and_not_too_long(
    amount: int, asked: list[tuple[float, int]], cost: int
) -> None:
    clock, limit = Clock(), meter(amount, "tokens")
    windows = Windows(clock)
    for pause_s, each in asked:
        clock.now += pause_s
        try:
            windows.take([(limit, each)])
        except WindowFullError:
            continue
    wait_s = wait_of(windows, limit, cost)
    if cost > amount:
        assert wait_s is None
    elif wait_s:
        assert wait_s <= MINUTE + PART
        clock.now += wait_s - 1e-3
        assert wait_of(windows, limit, cost)
        clock.now += 2e-3
        assert wait_of(windows, limit, cost) == 0


def wait_of(windows: Windows, limit: Meter, cost: int) -> float | None:
    """Seconds until it is taken; it is, when that is 0."""
    try:
        windows.take([(limit, cost)])
    except WindowFullError as error:
        wait_s = error.wait_s
    else:
        return 0.0
    assert wait_s is None or wait_s > 0
    return wait_s


def test_all_windows_count_or_none_does() -> None:
    windows = Windows(Clock())
    wide, narrow = meter(10), meter(1, "requests", "day")
    windows.take([(wide, 1), (narrow, 1)])
    with pytest.raises(WindowFullError) as raised:
        windows.take([(wide, 1), (narrow, 1)])
    assert raised.value.meter is narrow
    assert [standing.left for standing in windows.standing([wide, narrow])] == [9, 0]


def test_an_estimate_is_corrected_where_it_was_counted() -> None:
    clock, limit = Clock(), meter(100, "tokens")
    windows = Windows(clock)
    (taken,) = windows.take([(limit, 80)])
    clock.now += 30
    windows.correct(taken, 10)
    assert windows.standing([limit])[0].left == 90
    windows.correct(taken, 130)
    assert windows.standing([limit])[0].left == 0
    clock.now += MINUTE
    assert windows.standing([limit])[0].left == 100
    windows.correct(taken, 5)
    assert windows.standing([limit])[0].left == 100


def test_an_estimate_of_before_is_corrected_there_and_goes_with_it() -> None:
    clock, limit = Clock(), meter(100, "tokens")
    windows = Windows(clock)
    (early,) = windows.take([(limit, 50)])
    clock.now += 30
    windows.take([(limit, 40)])
    windows.correct(early, 60)
    assert windows.standing([limit])[0].left == 0
    clock.now += 30 + 2 * PART
    assert windows.standing([limit])[0].left == 60


def test_subjects_do_not_share_and_the_longest_unused_is_forgotten() -> None:
    windows = Windows(Clock(), most=2)
    one, two, three = (meter(1, owner=name) for name in ("one", "two", "three"))
    windows.take([(one, 1)])
    windows.take([(two, 1)])
    with pytest.raises(WindowFullError):
        windows.take([(one, 1)])
    windows.take([(three, 1)])
    windows.take([(two, 1)])
    with pytest.raises(WindowFullError):
        windows.take([(two, 1)])
