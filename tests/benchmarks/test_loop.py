"""The simulation of the loop: its world, what it measures, and a short run of it."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.loop.arms import buckets, decided, informed
from benchmarks.loop.cycle import Loop, Rules, utility
from benchmarks.loop.run import smooth
from benchmarks.loop.world import make_stream


def test_two_experts_swap_and_no_other_changes() -> None:
    before, after = make_stream(200, 200, seed=1), make_stream(200, 0, seed=1)
    np.testing.assert_array_equal(before.truth_NA[:, [1, 0, 2]], after.truth_NA[:, :3])
    np.testing.assert_array_equal(before.truth_NA[:, 2:], after.truth_NA[:, 2:])
    assert before.prompts == after.prompts


def test_a_mean_of_so_many_in_a_row() -> None:
    np.testing.assert_allclose(smooth(np.arange(6.0), 4), [1.5, 2.5, 3.5])


def test_buckets_learn_what_they_can_tell_apart() -> None:
    stream, nothing = make_stream(4000, 4000, seed=1), make_stream(1, 1, seed=2)
    worth_N = utility(stream, buckets(stream, nothing, 0))
    best, random = stream.worth.max(axis=1).mean(), stream.worth.mean()
    assert worth_N[-1000:].mean() > random + 0.6 * (best - random)


@pytest.mark.slow
def test_the_loop_finds_a_swap_and_recovers_where_a_frozen_router_does_not() -> None:
    drift_at, rows = 1200, 3600
    stream, collected = make_stream(rows, drift_at, seed=1), make_stream(300, 300, seed=2)
    loop = Loop(stream, collected, Rules(first=0, every=5000, alert_scores=500))
    worth_N = utility(stream, loop.run())
    frozen = informed(make_stream(1000, 1000, seed=3), 1000)
    after = informed(make_stream(1000, 0, seed=4), 1000)
    last = np.arange(rows - 400, rows)
    best = utility(stream.take(last), decided(after, stream, last)).mean()
    stuck = utility(stream.take(last), decided(frozen, stream, last)).mean()
    assert stuck < 0.8 * best
    assert worth_N[last].mean() > 0.9 * best
    told = [what for _, what, _ in loop.events]
    assert told[0] == "drifted"
    assert drift_at < loop.events[0][0] <= drift_at + 300
    assert told[-2:] == ["on trial", "promote"]
