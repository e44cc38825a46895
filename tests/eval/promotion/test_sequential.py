"""Intervals that are looked at after every request must hold all the time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import norm

from eval.promotion.canary import CanaryRules, Failures, judge_canary
from eval.promotion.sequential import difference_so_far, surely_above
from routers.records import Floats

SHARE = 0.2
LOOKS = range(200, 3001, 100)
NONE_2 = Failures(0, 0), Failures(0, 0)


def a_stream(
    rng: np.random.Generator, rows: int, gain: float, share: float = SHARE
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    canary_N = rng.random(rows) < share
    reward_N = (rng.random(rows) < 0.6 + gain * canary_N).astype(np.float64)
    return reward_N, canary_N


def test_an_interval_looked_at_all_the_time_misses_the_truth_at_most_one_time_in_twenty() -> None:
    missed = fooled = 0
    for seed in range(200):
        reward_N, canary_N = a_stream(np.random.default_rng(seed), LOOKS[-1], gain=0.0)
        seen = [difference_so_far(reward_N[:n], canary_N[:n], SHARE).interval for n in LOOKS]
        missed += any(each is not None and not each.low <= 0 <= each.high for each in seen)
        fooled += any(abs(_z(reward_N[:n], canary_N[:n])) > norm.ppf(0.975) for n in LOOKS)
    assert missed / 200 <= 0.05
    # What everybody does: the ordinary test at every look.
    assert fooled / 200 > 0.2


def _z(reward_N: Floats, canary_N: npt.NDArray[np.bool_]) -> float:
    sides = [reward_N[canary_N], reward_N[~canary_N]]
    spread = np.sqrt(sum(side.var() / len(side) for side in sides))
    return float((sides[0].mean() - sides[1].mean()) / spread)


def test_it_narrows_to_the_difference() -> None:
    reward_N, canary_N = a_stream(np.random.default_rng(0), 40_000, gain=0.1)
    seen = difference_so_far(reward_N, canary_N, SHARE)
    assert seen.value == pytest.approx(0.1, abs=0.015)
    assert seen.interval is not None
    assert 0.05 < seen.interval.low < 0.1 < seen.interval.high < 0.15


@pytest.mark.parametrize(("gain", "step"), [(0.15, "promote"), (-0.15, "roll back")])
def test_a_clear_canary_is_settled(gain: float, step: str) -> None:
    reward_N, canary_N = a_stream(np.random.default_rng(1), 3000, gain)
    assert judge_canary(reward_N, canary_N, NONE_2, CanaryRules(share=SHARE)).step == step


def test_what_may_be_lost_is_enough_to_be_promoted() -> None:
    reward_N, canary_N = a_stream(np.random.default_rng(2), 3000, gain=0.0)
    lenient, strict = CanaryRules(share=SHARE, most_loss=0.2), CanaryRules(share=SHARE, most_loss=0)
    verdict = judge_canary(reward_N, canary_N, NONE_2, lenient)
    assert verdict.seen.interval is not None
    assert -0.2 < verdict.seen.interval.low < 0
    assert verdict.step == "promote"
    assert judge_canary(reward_N, canary_N, NONE_2, strict).step == "wait"


def test_one_that_is_the_same_is_waited_for_and_not_forever() -> None:
    rules = CanaryRules(share=SHARE, most_scored=2000, most_loss=0.001)
    reward_N, canary_N = a_stream(np.random.default_rng(2), 2000, gain=0.0)
    early = judge_canary(reward_N[:1500], canary_N[:1500], NONE_2, rules)
    late = judge_canary(reward_N, canary_N, NONE_2, rules)
    assert early.step == "wait"
    assert late.step == "roll back"
    assert "within 2000 scored requests" in late.reason


def test_few_requests_say_nothing_but_failures_do() -> None:
    reward_N, canary_N = a_stream(np.random.default_rng(3), 60, gain=0.4)
    assert judge_canary(reward_N, canary_N, NONE_2, CanaryRules(share=SHARE)).step == "wait"
    failed_2 = Failures(12, 60), Failures(5, 500)
    failing = judge_canary(reward_N, canary_N, failed_2, CanaryRules(share=SHARE))
    assert failing.step == "roll back"
    assert "20.0% of its requests failed" in failing.reason


def test_a_canary_that_fails_as_often_as_others_is_seldom_taken_back_for_it() -> None:
    """However often one looks: of a few requests, one that fails is a large share."""
    taken_back = hasty = 0
    for seed in range(300):
        failed_N = np.random.default_rng(seed).random(400) < 0.06
        looks = list(enumerate(np.cumsum(failed_N).tolist(), start=1))
        taken_back += any(surely_above(failed, asked, 0.06) for asked, failed in looks)
        hasty += any(failed > 0.11 * asked for asked, failed in looks)
    assert 0 < taken_back / 300 <= 0.05
    # What a share says that is looked at by itself, with five points allowed.
    assert hasty / 300 > 0.3


@pytest.mark.parametrize(
    ("failed", "asked", "sure"),
    [(1, 1, False), (2, 2, True), (1, 20, False), (5, 10, True), (15, 100, False), (20, 100, True)],
)
def test_what_fails_clearly_is_taken_back_soon(failed: float, asked: int, sure: bool) -> None:
    assert surely_above(failed, asked, 0.08) is sure
    reward_N, canary_N = np.zeros(0), np.zeros(0, dtype=bool)
    failed_2 = Failures(failed, asked), Failures(3, 100)
    verdict = judge_canary(reward_N, canary_N, failed_2, CanaryRules(share=SHARE))
    assert verdict.step == ("roll back" if sure else "wait")


def test_where_nothing_may_fail_one_failure_is_enough() -> None:
    assert surely_above(1, 5, 0.0)
    assert not surely_above(0, 5, 0.0)
    assert not surely_above(3, 3, 1.0)


def test_each_reward_is_corrected_by_earlier_conversations_alone() -> None:
    """By its own it would be drawn towards itself, and the interval be no longer valid."""
    reward_N, canary_N = np.array([1.0, 0.0, 1.0]), np.array([True, False, False])
    # Means so far are (.5, .5), (.75, .5) and (.75, .25), each with half a point more to begin.
    contrasts = [(1 - 0.5) / 0.5, 0.25 + (0.5 - 0) / 0.5, 0.5 - (1 - 0.25) / 0.5]
    seen = difference_so_far(reward_N, canary_N, 0.5)
    assert seen.value == pytest.approx(np.mean(contrasts))
    # Of one conversation the last two are: what it said before is no earlier conversation's.
    talked = difference_so_far(reward_N, canary_N, 0.5, ["a", "b", "b"])
    contrasts[2] = 0.25 - (1 - 0.5) / 0.5
    assert talked.value == pytest.approx(np.mean(contrasts))


def test_nobody_asked_is_no_difference() -> None:
    seen = difference_so_far(np.ones(5), np.zeros(5, dtype=bool), 0.1)
    assert np.isnan(seen.value)
    assert seen.interval is None


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="share must be in"):
        difference_so_far(np.ones(2), np.array([True, False]), share)


def conversations(
    rng: np.random.Generator, count: int
) -> tuple[Floats, npt.NDArray[np.bool_], list[str]]:
    """Rewards of conversations that go well or badly as a whole, some of them long, interleaved."""
    size_G = rng.choice([1, 2, 15], size=count, p=[0.5, 0.3, 0.2])
    group_N = np.repeat(np.arange(count), size_G)
    # Each begins at its time, and goes on while others do.
    group_N = group_N[np.argsort(group_N + rng.random(len(group_N)) * 30, kind="stable")]
    well_G, canary_G = rng.random(count) < 0.6, rng.random(count) < SHARE
    reward_N = (rng.random(len(group_N)) < np.where(well_G, 0.95, 0.1)[group_N]).astype(np.float64)
    return reward_N, canary_G[group_N], [f"s{group}" for group in group_N.tolist()]


def test_conversations_are_what_is_counted() -> None:
    """As many requests in few conversations tell less, and looking at them fools nobody."""
    missed = fooled = 0
    for seed in range(50):
        reward_N, canary_N, groups = conversations(np.random.default_rng(seed), 1200)
        looks = range(300, len(reward_N), 200)
        held = [difference_so_far(reward_N[:n], canary_N[:n], SHARE, groups[:n]) for n in looks]
        naive = [difference_so_far(reward_N[:n], canary_N[:n], SHARE) for n in looks]
        missed += any(each.interval is not None and each.interval.low > 0 for each in held)
        missed += any(each.interval is not None and each.interval.high < 0 for each in held)
        fooled += any(
            each.interval is not None and not each.interval.low <= 0 <= each.interval.high
            for each in naive
        )
    assert missed / 50 <= 0.05
    assert fooled / 50 > 0.2


def test_requests_of_their_own_are_counted_as_before() -> None:
    reward_N, canary_N = a_stream(np.random.default_rng(3), 2000, gain=0.1)
    apart = [f"r{row}" for row in range(2000)]
    assert difference_so_far(reward_N, canary_N, SHARE, apart) == difference_so_far(
        reward_N, canary_N, SHARE
    )
