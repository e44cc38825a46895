"""ADWIN over a whole stream: as quick as river's, dated, and quiet where nothing changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from river import drift

from eval.drift.adwin import Adwin, last_cut
from eval.drift.residuals import Residuals, moved
from routers.records import Floats

BEFORE = 2000


def stream(seed: int, before: float, after: float, count: int = 800) -> Floats:
    """Right or wrong, with another chance of being right from one place on."""
    rng = np.random.default_rng(seed)
    chance_N = np.repeat([before, after], [BEFORE, count])
    return (rng.random(len(chance_N)) < chance_N).astype(np.float64)


def rivers(value_N: Floats) -> int | None:
    """Where the library finds the first change."""
    reference: Any = drift.ADWIN(delta=0.002)  # type: ignore[no-untyped-call]
    for place, value in enumerate(value_N.tolist()):
        reference.update(value)
        if reference.drift_detected:
            return place
    return None


@pytest.mark.parametrize(("before", "after"), [(0.8, 0.4), (0.6, 0.4), (0.4, 0.6)])
@pytest.mark.parametrize("seed", range(4))
def test_a_change_is_found_about_when_the_library_finds_it(
    seed: int, before: float, after: float
) -> None:
    value_N = stream(seed, before, after)
    found, theirs = last_cut(value_N, Adwin()), rivers(value_N)
    assert found is not None
    assert theirs is not None
    assert abs(found.found - theirs) <= 96
    assert found.began == pytest.approx(BEFORE, abs=250)
    assert found.start == 0


def test_nothing_is_found_where_nothing_changes() -> None:
    # 40 streams of 2,800 values, looked at 87 times each.
    alarms = sum(last_cut(stream(seed, 0.6, 0.6), Adwin()) is not None for seed in range(40))
    assert alarms <= 1
    assert last_cut(np.full(500, 0.5), Adwin()) is None
    assert last_cut(np.array([0.0, 1.0]), Adwin()) is None


def test_few_values_say_nothing() -> None:
    assert last_cut(np.repeat([1.0, 0.0], [14, 50])[:32], Adwin(least_rows=33)) is None
    assert last_cut(np.repeat([1.0, 0.0], 32), Adwin()) is not None


def test_experts_are_looked_at_by_it_where_that_is_asked_for() -> None:
    rng = np.random.default_rng(3)
    chance_N = np.repeat([0.6, 0.4], [2000, 1000])
    seen = Residuals(
        ["one"] * 3000, [None] * 3000, np.full(3000, 0.6),
        (rng.random(3000) < chance_N).astype(np.float64), np.arange(3000, dtype=np.float64),
    )  # fmt: skip
    (found,) = moved(seen, Adwin())
    assert found.expert == "one"
    assert found.since == pytest.approx(2000, abs=250)
    assert found.after - found.before == pytest.approx(-0.2, abs=0.06)
    # The other test is bolder, and so earlier.
    (sooner,) = moved(seen)
    assert sooner.found < found.found
