"""A router is only as bold as would have paid."""

from __future__ import annotations

import numpy as np

from eval.compositions.caution import Caution
from routers.records import Floats

COMPOSED = np.array([False, False, True, True, True, True])


def world(count: int, seed: int, noise: float) -> tuple[Floats, Floats]:
    """Two experts that are good at different things, and four compositions, none of them better.

    Returns:
        What is expected of each, and what it comes to.
    """
    rng = np.random.default_rng(seed)
    easy_N = rng.uniform(size=count)
    mean_NA = np.stack([0.6 + 0.3 * (easy_N > 0.5), 0.8 - 0.3 * (easy_N > 0.5)], axis=1)
    mean_NA = np.hstack([mean_NA, np.full((count, 4), 0.74)])
    expected_NA = mean_NA + rng.normal(scale=noise * np.where(COMPOSED, 2, 1), size=(count, 6))
    return expected_NA, np.where(rng.uniform(size=(count, 6)) < mean_NA, 1.0, 0.0)


def gain(caution: Caution, seed: int, noise: float) -> float:
    expected_NA, utility_NA = world(20_000, seed, noise)
    chosen_N = caution.columns(expected_NA, COMPOSED)
    return float((utility_NA[np.arange(20_000), chosen_N] - utility_NA[:, caution.fixed]).mean())


def test_many_compositions_that_only_look_good_are_left_alone() -> None:
    caution = Caution.fit(*world(3000, 0, 0.1), COMPOSED)
    bold = Caution(caution.fixed, 0.0, 0.0)
    assert caution.over_singles > 0
    assert gain(caution, 1, 0.1) > max(gain(bold, 1, 0.1) + 0.02, 0.03)


def test_where_estimates_tell_nothing_the_best_fixed_choice_stays() -> None:
    expected_NA, utility_NA = world(3000, 2, 0.1)
    shuffled_NA = np.random.default_rng(3).permutation(expected_NA)
    caution = Caution.fit(shuffled_NA, utility_NA, COMPOSED)
    assert caution.fixed == utility_NA.mean(axis=0).argmax()
    assert (caution.columns(expected_NA, COMPOSED) == caution.fixed).all()


def test_sure_estimates_are_followed() -> None:
    caution = Caution.fit(*world(3000, 4, 0.0), COMPOSED)
    assert gain(caution, 5, 0.0) > 0.08
