from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from eval.differences import Compared
from eval.operating import GIVE_UP, _folds, _Tried, choose_settings
from eval.prices import fit_prices

MakeWorld = Callable[..., Any]
QUERIES = 1000


def tried(gains: list[float], costs: list[float], spread: float = 0.0) -> _Tried:
    """A sweep whose settings gain and cost that much against a rival of quality .5 and cost 1."""
    wiggle = spread * np.where(np.arange(QUERIES) % 2, 1.0, -1.0)
    ones = np.ones((2, QUERIES))
    quality = [
        Compared(np.stack([np.full(QUERIES, 0.5 + gain) + wiggle, np.full(QUERIES, 0.5)]), ones)
        for gain in gains
    ]
    cost = [Compared(np.stack([np.full(QUERIES, c), np.ones(QUERIES)]), ones) for c in costs]
    return _Tried(quality, cost)


@pytest.mark.parametrize(
    ("gains", "costs", "given_up", "index", "safe"),
    [
        ([0.05, 0.04, -0.02], [0.9, 0.5, 0.1], 0.0, 1, True),
        ([0.05, 0.04, -0.02], [0.9, 0.5, 0.1], 0.02 + 1e-9, 2, True),
        ([0.05, 0.01, -0.02], [0.9, 0.6, 0.1], None, 0, True),
        ([0.05, 0.04, -0.02], [0.9, 0.5, 0.1], None, 1, True),
        ([-0.05, -0.04, -0.1], [0.9, 0.5, 0.1], 0.0, 1, False),
        ([-0.05, -0.04, -0.1], [0.9, 0.5, 0.1], None, 1, False),
        ([0.02, 0.02], [0.9, 0.5], 0.0, 1, True),
        ([0.01, 0.02], [np.nan, np.nan], None, 1, True),
    ],
)
def test_the_setting_fits_what_may_be_lost(
    gains: list[float],
    costs: list[float],
    given_up: float | None,
    index: int,
    safe: bool,
) -> None:
    found = tried(gains, costs).setting(given_up)
    assert (found.index, found.safe) == (index, safe)
    assert found.quality_gain == pytest.approx(gains[index])


def test_a_setting_needs_one_standard_error_to_spare() -> None:
    stderr = 0.3 / np.sqrt(QUERIES)
    assert not tried([0.9 * stderr], [0.5], spread=0.3).setting(0.0).safe
    assert tried([1.1 * stderr], [0.5], spread=0.3).setting(0.0).safe


def test_settings_come_from_cross_validation(make_world: MakeWorld) -> None:
    world = make_world(300)
    prices = fit_prices(world.train)
    weights = (0.0, 0.05, 0.2, 1.0, 1e4)
    found = choose_settings("category", world.train, prices, weights, best=1, seed=0)
    assert [each.given_up for each in found] == [None, *GIVE_UP]
    assert found[0].safe
    assert found[0].cost_save > 0.2
    saves = [each.cost_save for each in found[1:]]
    assert saves == sorted(saves)
    assert found == choose_settings("category", world.train, prices, weights, best=1, seed=0)


def test_without_costs_there_is_one_setting(make_world: MakeWorld) -> None:
    world = make_world(90, costs=False)
    found = choose_settings(
        "category", world.train, dict.fromkeys(world.train.experts), (0.0,), best=1, seed=0
    )
    assert len(found) == 1
    assert found[0].given_up is None


def test_a_fold_too_small_to_learn_from_gives_no_promise(make_world: MakeWorld) -> None:
    world = make_world(3)
    (found, *_) = choose_settings(
        "category", world.train, dict.fromkeys(world.train.experts), (0.0,), best=1, seed=0
    )
    assert found.index == 0


@pytest.mark.parametrize(("count", "folds"), [(120, 3), (3500, 1)])
def test_no_group_is_fitted_and_tried(count: int, folds: int, make_world: MakeWorld) -> None:
    table = make_world(count).train
    found = _folds(table, seed=0)
    assert len(found) == folds
    for fit, valid in found:
        assert not {table.groups[i] for i in fit} & {table.groups[i] for i in valid}
        assert len(fit) + len(valid) == count
