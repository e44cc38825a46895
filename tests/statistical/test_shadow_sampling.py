"""Shadow calls on a share of the requests tell what an expert is worth that never serves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from eval.ope.candidate import always
from eval.ope.judge import judge
from eval.ope.logged import Logged
from eval.ope.rewards import rewards
from eval.ope.sampled import chances_seen
from routers.records import FeatureBatch, Floats, OutcomeTable

EXPERTS = ("chosen", "never", "rare")
SHARE = 0.06
REPLICATES = 120
ROWS = 4000


@dataclass(frozen=True)
class World:
    """One log, and the quality that each expert has on its requests."""

    logged: Logged
    features: FeatureBatch
    truth_A: Floats


def draw(rng: np.random.Generator, *, served_scored: float, shadow_scored: float) -> World:
    vectors_ND = rng.normal(size=(ROWS, 3)).astype(np.float32)
    vectors_ND /= np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    # A product: no linear model of the scores is right.
    slope_NA = np.stack(
        [
            0.55 + 0.3 * vectors_ND[:, 0],
            0.6 + 0.6 * vectors_ND[:, 0] * vectors_ND[:, 1],
            0.4 - 0.2 * vectors_ND[:, 2],
        ],
        axis=1,
    )
    quality_NA = np.clip(slope_NA, 0.02, 0.98)
    right_NA = (rng.random(quality_NA.shape) < quality_NA).astype(np.float64)
    # Who serves depends on the request; the second expert never does.
    likely_N = np.where(vectors_ND[:, 0] > 0, 0.97, 0.85)
    logged_NA = np.stack([likely_N, np.zeros(ROWS), 1 - likely_N], axis=1)
    drawn_N = np.where(rng.random(ROWS) < likely_N, 0, 2)
    asked_NA = np.full((ROWS, 3), SHARE)
    # Shadow calls were off in the first part, and the third expert is not asked in the last one.
    asked_NA[: ROWS // 5] = 0.0
    asked_NA[-ROWS // 4 :, 2] = 0.0
    rows = np.arange(ROWS)
    sampled_N1 = (rng.random(ROWS) < SHARE)[:, None] & (asked_NA > 0)
    score_NA = np.where(sampled_N1 & (rng.random((ROWS, 3)) < shadow_scored), right_NA, np.nan)
    own_N = np.where(rng.random(ROWS) < served_scored, right_NA[rows, drawn_N], np.nan)
    score_NA[rows, drawn_N] = own_N
    chance_NA, aside_NA = chances_seen(logged_NA, asked_NA, drawn_N, ~np.isnan(score_NA))
    seen_NA = ~np.isnan(score_NA)
    ids = tuple(f"q{row}" for row in range(ROWS))
    unknown_NA = np.full((ROWS, 3), np.nan)
    table = OutcomeTable(
        ids, ids, (None,) * ROWS, ids, EXPERTS, score_NA, unknown_NA, unknown_NA, unknown_NA,
        unknown_NA, np.where(seen_NA, chance_NA, np.nan),
    )  # fmt: skip
    logged = Logged(table, logged_NA, np.ones((ROWS, 3), dtype=bool), aside_NA)
    features = FeatureBatch(ids, vectors_ND, np.full(ROWS, 10.0))
    # Since shadow calls were switched on.
    recent = np.arange(ROWS // 5, ROWS)
    scored = recent[seen_NA[recent].any(axis=1)]
    return World(logged.take(scored), features.take(scored), quality_NA[recent].mean(axis=0))


def errors(expert: int, served_scored: float, shadow_scored: float) -> tuple[Floats, Floats]:
    """Estimate less truth, and whether the interval held it, over replicates; (R,) each."""
    rng = np.random.default_rng(4)
    off, held = [], []
    for _ in range(REPLICATES):
        world = draw(rng, served_scored=served_scored, shadow_scored=shadow_scored)
        known = rewards(world.logged, world.features, rng)
        target_NA = always(world.logged, EXPERTS[expert])
        found = judge(world.logged, target_NA, known, replicates=2, estimators=("dr",))
        assert found.refused == ()
        value = found.values["quality"]["dr"]
        assert value.normal is not None
        off.append(value.value - world.truth_A[expert])
        held.append(value.normal.low <= world.truth_A[expert] <= value.normal.high)
    return np.array(off), np.array(held, dtype=np.float64)


@pytest.mark.slow
def test_the_value_of_an_expert_that_never_serves_is_recovered() -> None:
    off_R, held_R = errors(1, served_scored=1.0, shadow_scored=1.0)
    assert abs(off_R.mean()) < 0.01
    assert held_R.mean() >= 0.9


@pytest.mark.slow
def test_so_it_is_where_only_some_answers_are_scored() -> None:
    """People score half of what they get, a judge four fifths of the shadows."""
    off_R, held_R = errors(1, served_scored=0.5, shadow_scored=0.8)
    assert abs(off_R.mean()) < 0.01
    assert held_R.mean() >= 0.9


@pytest.mark.slow
def test_who_serves_is_no_less_known_by_shadows() -> None:
    off_R, held_R = errors(0, served_scored=0.5, shadow_scored=0.8)
    assert abs(off_R.mean()) < 0.01
    assert held_R.mean() >= 0.9


def test_without_shadow_calls_chances_are_those_of_what_served() -> None:
    logged_NA = np.array([[0.3, 0.7], [1.0, 0.0]])
    seen_NA = np.array([[False, True], [False, False]])
    none_NA = np.zeros((2, 2))
    chance_NA, aside_NA = chances_seen(logged_NA, none_NA, np.array([1, 0]), seen_NA)
    assert chance_NA.tolist() == logged_NA.tolist()
    assert not aside_NA.any()


SERVES_A = np.array([0.9, 0.08, 0.02])


def test_requests_that_nobody_scores_say_nothing_of_how_those_with_a_check_were_sampled() -> None:
    """Three in ten carry a check: those are scored whoever answered, and others asked of them."""
    rng = np.random.default_rng(0)
    drawn_N, checked_N = rng.choice(3, size=20_000, p=SERVES_A), rng.random(20_000) < 0.3
    seen_NA = np.repeat((checked_N & (rng.random(20_000) < SHARE))[:, None], 3, axis=1)
    seen_NA[checked_N, drawn_N[checked_N]] = True
    asked_NA = np.repeat(np.where(checked_N, SHARE, 0.0)[:, None], 3, axis=1)
    chance_NA, aside_NA = chances_seen(np.tile(SERVES_A, (20_000, 1)), asked_NA, drawn_N, seen_NA)
    true_A = SERVES_A + (1 - SERVES_A) * SHARE
    assert chance_NA[checked_N][0] == pytest.approx(true_A, rel=0.08)
    assert np.isfinite(chance_NA).all()
    assert not aside_NA[~checked_N].any()


def test_who_is_scored_only_beside_another_is_seen_as_often_as_it_was_drawn() -> None:
    """A judge of pairs scores the answer that was given where another one was asked for, too."""
    rng = np.random.default_rng(1)
    drawn_N, sampled_N = rng.choice(3, size=20_000, p=SERVES_A), rng.random(20_000) < SHARE
    seen_NA = np.repeat(sampled_N[:, None], 3, axis=1)
    asked_NA = np.full((20_000, 3), SHARE)
    chance_NA, _ = chances_seen(np.tile(SERVES_A, (20_000, 1)), asked_NA, drawn_N, seen_NA)
    # Of a request of which anything is seen, all is.
    assert chance_NA[0] == pytest.approx(1.0, rel=0.08)
