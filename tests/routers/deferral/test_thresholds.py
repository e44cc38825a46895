"""A threshold on the signal of a draft spends its budget, and keeps its risk."""

from __future__ import annotations

import numpy as np
import pytest

from routers.deferral.threshold import DeferralThreshold
from routers.errors import TableError
from routers.records import Floats


def world(count: int, seed: int, levels: int | None = None) -> tuple[Floats, Floats, Floats]:
    """Signals, whether drafts are right (as often as the signal says), dollars of the next."""
    rng = np.random.default_rng(seed)
    signal_N = rng.uniform(size=count)
    if levels:
        signal_N = np.round(signal_N * levels) / levels
    right_N = (rng.uniform(size=count) < signal_N).astype(np.float64)
    # Hard requests are dearer, which a share of the traffic would not see.
    return signal_N, right_N, 0.01 * np.exp(rng.normal(size=count) * 0.3 - signal_N)


@pytest.mark.parametrize("levels", [None, 5, 1])
@pytest.mark.parametrize("part", [0.0, 0.13, 0.5, 0.9])
def test_a_budget_is_spent_exactly_where_it_was_fitted_and_within_2_percent_on_new_traffic(
    part: float, levels: int | None
) -> None:
    signal_N, _, next_N = world(80_000, 0, levels)
    draft_N = np.full(len(signal_N), 0.001)
    budget = 0.001 + part * next_N.mean()
    threshold = DeferralThreshold.of_budget(signal_N, draft_N, next_N, budget)
    spent = (draft_N + threshold.deferred(signal_N) * next_N).mean()
    assert spent == pytest.approx(budget, rel=1e-9)
    signal_N, _, next_N = world(80_000, 1, levels)
    assert (0.001 + threshold.deferred(signal_N) * next_N).mean() == pytest.approx(budget, rel=0.02)


def test_a_share_of_equal_signals_is_deferred_by_chance() -> None:
    signal_N = np.full(100, 0.8)
    threshold = DeferralThreshold.of_share(signal_N, 0.25)
    assert threshold.deferred(signal_N).mean() == pytest.approx(0.25)
    assert threshold.defers(0.8, 0.2)
    assert not threshold.defers(0.8, 0.3)
    assert threshold.defers(0.7, 0.99)
    assert not threshold.defers(0.9, 0.0)


def test_all_and_nothing_are_ends_of_the_range() -> None:
    signal_N = np.linspace(0, 1, 11)
    assert DeferralThreshold.of_share(signal_N, 1.0).deferred(signal_N).mean() == 1.0
    assert DeferralThreshold.of_share(signal_N, 0.0).deferred(signal_N).mean() == 0.0


def test_with_a_calibrated_signal_no_other_set_of_as_many_drafts_is_better_to_defer() -> None:
    """Deferring the least sure is optimal where the strong expert is as good everywhere."""
    rng = np.random.default_rng(1)
    signal_N = rng.uniform(size=20_000)
    weak_N = (rng.uniform(size=20_000) < signal_N).astype(np.float64)
    deferred_N = DeferralThreshold.of_share(signal_N, 0.4).deferred(signal_N)
    best = (deferred_N * 0.9 + (1 - deferred_N) * weak_N).mean()
    for _ in range(20):
        # Others that defer as many: the same order, disturbed.
        other_N = DeferralThreshold.of_share(
            signal_N + rng.normal(scale=0.3, size=20_000), 0.4
        ).deferred(signal_N + rng.normal(scale=0.3, size=20_000))
        other_N = other_N * 0.4 / other_N.mean()
        assert (other_N * 0.9 + (1 - other_N) * weak_N).mean() < best


@pytest.mark.parametrize("risk", [0.02, 0.1])
def test_kept_and_wrong_stays_below_the_risk_on_average_over_500_splits(risk: float) -> None:
    signal_N, right_N, _ = world(2000, 2, 20)
    rng, lost = np.random.default_rng(3), []
    for _ in range(500):
        order = rng.permutation(len(signal_N))
        fit, held = order[:300], order[300:]
        threshold = DeferralThreshold.of_risk(signal_N[fit], 1 - right_N[fit], risk)
        kept_N = 1 - threshold.deferred(signal_N[held])
        lost.append(float((kept_N * (1 - right_N[held])).mean()))
    error = np.std(lost) / np.sqrt(len(lost))
    assert np.mean(lost) <= risk + 3 * error
    # It isn't kept by deferring everything.
    assert np.mean(lost) >= 0.6 * risk


def test_a_signal_that_says_nothing_defers_more_and_keeps_the_risk() -> None:
    rng = np.random.default_rng(4)
    signal_N, wrong_N = rng.uniform(size=4000), (rng.uniform(size=4000) < 0.4).astype(np.float64)
    threshold = DeferralThreshold.of_risk(signal_N, wrong_N, 0.05)
    assert threshold.deferred(signal_N).mean() == pytest.approx(1 - 0.05 / 0.4, abs=0.03)


def test_without_drafts_there_is_no_threshold() -> None:
    nothing = np.zeros(0)
    with pytest.raises(TableError, match="no draft"):
        DeferralThreshold.of_share(nothing, 0.5)
    with pytest.raises(TableError, match="no draft"):
        DeferralThreshold.of_risk(nothing, nothing, 0.1)
