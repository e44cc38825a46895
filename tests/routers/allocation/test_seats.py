"""Only equals are mixed; and in a world like the published one that is what pays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routers.allocation.seats import SeatRules, seated
from routers.records import Floats

NO_DOUBT = np.zeros(3)


def test_who_is_clearly_best_gets_every_seat() -> None:
    assert seated(np.array([0.5, 0.8, 0.7]), NO_DOUBT, 4) == (1, 1, 1, 1)


def test_equals_share_the_seats_and_the_best_comes_first() -> None:
    found = seated(np.array([0.80, 0.81, 0.3]), NO_DOUBT, 4)
    assert found[0] == 1
    assert sorted(found) == [0, 0, 1, 1]


def test_doubt_lets_more_take_part() -> None:
    quality_A, rules = np.array([0.8, 0.75, 0.72]), SeatRules(margin=0.1, mass=0.8)
    sure = seated(quality_A, NO_DOUBT, 6, rules)
    unsure = seated(quality_A, np.full(3, 0.3), 6, rules)
    assert set(sure) == {0}
    assert set(unsure) == {0, 1, 2}


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 0.5)), min_size=1, max_size=6),
    st.integers(1, 8),
    st.floats(0, 0.3),
    st.floats(0.01, 1),
)
def test_all_seats_are_taken_by_who_is_near_the_best(
    pool: list[tuple[float, float]], seats: int, margin: float, mass: float
) -> None:
    quality_A, stderr_A = (np.array(column) for column in zip(*pool, strict=True))
    found = seated(quality_A, stderr_A, seats, SeatRules(margin, mass))
    assert len(found) == seats
    # Chances can't tell apart what differs in the last digit.
    assert quality_A[found[0]] == pytest.approx(quality_A.max(), abs=1e-9)
    assert all(quality_A[each] >= quality_A.max() - margin for each in found)


def mixed(
    team_A: tuple[int, ...], skill_A: Floats, kinds_A: Floats, rng: np.random.Generator
) -> float:
    """Quality of a mixture whose aggregator sees each draft's quality through noise.

    A draft is its model's skill, plus what the model has for this question (shared by its samples,
    so that different models are more diverse), plus luck of the sample.
    """
    rows = 20_000
    taste_NA = rng.normal(0, kinds_A, (rows, len(skill_A)))
    own_NK = skill_A[list(team_A)] + taste_NA[:, list(team_A)]
    drafts_NK = own_NK + rng.normal(0, 0.1, (rows, len(team_A)))
    picks_N = (drafts_NK + rng.normal(0, 0.15, drafts_NK.shape)).argmax(axis=1)
    return float(drafts_NK[np.arange(rows), picks_N].mean())


@pytest.mark.parametrize("gap", [0.1, 0.2], ids=["gap .1", "gap .2"])
def test_quality_beats_diversity(gap: float) -> None:
    """One strong model asked six times beats it mixed with two that are worse by some margin."""
    skill_A, kinds_A = np.array([0.7, 0.7 - gap, 0.7 - gap]), np.full(3, 0.05)
    rng = np.random.default_rng(0)
    alone = mixed((0,) * 6, skill_A, kinds_A, rng)
    diverse = mixed((0, 0, 1, 1, 2, 2), skill_A, kinds_A, rng)
    assert alone > diverse + 0.01
    assert seated(skill_A, NO_DOUBT, 6) == (0,) * 6


def test_among_equals_diversity_pays_and_is_chosen() -> None:
    skill_A, kinds_A = np.full(3, 0.7), np.full(3, 0.05)
    rng = np.random.default_rng(0)
    alone = mixed((0,) * 6, skill_A, kinds_A, rng)
    chosen = seated(skill_A, NO_DOUBT, 6)
    assert sorted(chosen) == [0, 0, 1, 1, 2, 2]
    assert mixed(chosen, skill_A, kinds_A, rng) > alone + 0.005


@pytest.mark.parametrize(
    "rules", [{"margin": -0.1}, {"mass": 0}, {"mass": 1.1}, {"temperature": 0}], ids=str
)
def test_rules_that_make_no_sense_are_refused(rules: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        SeatRules(**rules)
