"""AutoMix: hopeless drafts are not passed on, and no threshold beats what is chosen."""

from __future__ import annotations

import numpy as np
import pytest

from routers.deferral.verification import (
    HOPELESS,
    NEEDY,
    CheckedDrafts,
    MetaVerifier,
    bin_of,
    fit_meta_verifier,
    ibc_lift,
    state_chances,
)
from routers.errors import TableError


def planted(seed: int = 0, count: int = 4000) -> CheckedDrafts:
    """Right drafts are mostly approved, needy ones by halves, and hopeless ones by nobody."""
    rng = np.random.default_rng(seed)
    state_N = rng.choice(3, p=[0.5, 0.25, 0.25], size=count)
    centre_N = np.array([0.85, 0.45, 0.1])[state_N]
    share_N = np.clip(rng.normal(centre_N, 0.12), 0, 1)
    small_N = np.where(state_N == 0, 1.0, 0.0)
    large_N = np.where(state_N != HOPELESS, 1.0, 0.0)
    return CheckedDrafts(share_N, small_N, large_N, small_usd=1.0, check_usd=1.0, large_usd=50.0)


def test_the_hopeless_are_not_passed_on() -> None:
    rule = fit_meta_verifier(planted())
    assert rule.kind in {"pomdp", "double"}
    assert not rule.defer[0]
    assert rule.hopeless[0]
    assert rule.defer[3]
    assert not rule.defer[7]
    assert not rule.hopeless[7]
    share_N = np.array([0.05, 0.45, 0.95])
    assert rule.defers(share_N).tolist() == [False, True, False]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("worth", [None, 20.0, 200.0])
def test_it_is_never_worse_than_the_best_single_threshold(seed: int, worth: float | None) -> None:
    rng = np.random.default_rng(seed)
    large_N = np.where(rng.uniform(size=300) < 0.8, 1.0, 0.0)
    small_N = np.where(rng.uniform(size=300) < 0.5, large_N, 0.0)
    share_N = np.round(rng.uniform(size=300) * 8) / 8
    checked = CheckedDrafts(share_N, small_N, large_N, 1.0, 1.0, 50.0)

    def value(rule: MetaVerifier) -> float:
        deferred_N = rule.defers(checked.share_N)
        if worth is None:
            return ibc_lift(checked, deferred_N)
        quality = np.where(deferred_N, large_N, small_N).mean()
        return float(quality * worth - deferred_N.mean() * 50.0)

    least = 0.0 if worth else 0.05
    any_rule = fit_meta_verifier(checked, worth_usd=worth, least_deferred=least)
    single = fit_meta_verifier(checked, kinds=("threshold",), worth_usd=worth, least_deferred=least)
    assert value(any_rule) >= value(single) - 1e-12


def test_lift_is_the_published_ratio() -> None:
    checked = planted()
    everyone = np.ones(len(checked.share_N), dtype=bool)
    # All are deferred and checked: the same gain for 51 instead of 49 dollars on top.
    assert ibc_lift(checked, everyone) == pytest.approx(49 / 51 - 1)
    needy = (checked.large_N - checked.small_N) == 1
    gain = float((checked.large_N - checked.small_N).mean())
    expected = (gain / (1 + needy.mean() * 50)) / (gain / 49) - 1
    assert ibc_lift(checked, needy) == pytest.approx(expected)
    assert expected > 1


def test_chances_of_states_follow_the_drafts_of_a_bin() -> None:
    chances_BS = state_chances(planted())
    assert chances_BS.sum(axis=1) == pytest.approx(1.0)
    assert chances_BS[7].argmax() == 0
    assert chances_BS[3].argmax() == NEEDY
    assert chances_BS[0].argmax() == HOPELESS
    assert bin_of(np.array([0.0, 0.124, 0.125, 1.0])).tolist() == [0, 0, 1, 7]


def test_a_large_expert_that_is_no_better_is_refused() -> None:
    same = np.array([1.0, 0.0, 1.0])
    with pytest.raises(TableError, match="no better"):
        fit_meta_verifier(CheckedDrafts(same, same, same, 1.0, 0.1, 5.0))
