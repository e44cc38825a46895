"""What it takes to leave the best single expert."""

from __future__ import annotations

import numpy as np
import pytest

from routers.estimators.observed import Observed
from routers.estimators.premium import PREMIUMS, premium
from routers.records import Floats


def seen(score_NA: Floats, weight_NA: Floats | None = None) -> Observed:
    weight_NA = np.ones_like(score_NA) if weight_NA is None else weight_NA
    return Observed(score_NA, weight_NA, score_NA.mean(axis=0))


def coins(rng: np.random.Generator, chance_NA: Floats) -> Floats:
    return (rng.random(chance_NA.shape) < chance_NA).astype(np.float64)


def test_choosing_that_proved_better_needs_no_premium() -> None:
    rng = np.random.default_rng(0)
    chance_NA = rng.choice([0.3, 0.9], size=(400, 4))
    base_NA = np.full_like(chance_NA, 0.6)
    assert premium(chance_NA, base_NA, seen(coins(rng, chance_NA)), best=0) == 0.0


def test_among_many_alike_what_looks_better_by_luck_must_look_much_better() -> None:
    rng = np.random.default_rng(1)
    chance_NA = np.full((600, 40), 0.55)
    chance_NA[:, 7] = 0.6
    looks_NA = chance_NA + rng.normal(scale=0.02, size=chance_NA.shape)
    score_NA = coins(rng, chance_NA)
    found = premium(looks_NA, chance_NA, seen(score_NA), best=7)
    assert found >= 0.02
    looks_NA[:, 7] += found
    left_N = looks_NA.argmax(axis=1) != 7
    assert left_N.mean() < 0.05


def test_a_premium_is_no_larger_than_it_has_to_be() -> None:
    rng = np.random.default_rng(2)
    # Who looks 1.5 points better is 20 worse; who looks 8 points better is 20 better.
    kind_N = rng.integers(3, size=900)
    looks_NA = np.stack([np.full(900, 0.6), np.array([0.5, 0.615, 0.68])[kind_N]], axis=1)
    chance_NA = np.stack([np.full(900, 0.6), np.array([0.5, 0.4, 0.8])[kind_N]], axis=1)
    found = premium(looks_NA, np.full((900, 2), 0.58), seen(coins(rng, chance_NA)), best=0)
    assert found == 0.02


@pytest.mark.parametrize(("good", "wanted"), [(True, 0.0), (False, PREMIUMS[2])])
def test_logs_of_single_answers_are_weighed_by_how_often_they_were_chosen(
    good: bool, wanted: float
) -> None:
    rng = np.random.default_rng(3)
    chance_NA = np.tile([0.5, 0.7 if good else 0.3], (4000, 1))
    looks_NA = np.tile([0.5, 0.506], (4000, 1))
    share_A = np.array([0.9, 0.1])
    asked_N = rng.choice(2, p=share_A, size=4000)
    asked_NA = np.arange(2) == asked_N[:, None]
    score_NA = np.where(asked_NA, coins(rng, chance_NA), 0.0)
    outcomes = Observed(score_NA, asked_NA.astype(np.float64), np.array([0.5, 0.5]))
    assert premium(looks_NA, np.full((4000, 2), 0.5), outcomes, best=0) == wanted


def test_what_was_never_held_out_asks_for_none() -> None:
    unknown_NA = np.full((5, 2), np.nan)
    assert premium(unknown_NA, unknown_NA, seen(np.ones((5, 2))), best=0) == 0.0
