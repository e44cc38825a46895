from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from eval.metrics.differences import Compared
from eval.replay.operating import GIVE_UP, Fit, _Tried, choose_settings, sweep
from eval.tables.prices import fit_prices
from routers.fitting.fit import by_query_id, encode_table, fit_router
from routers.records import OutcomeTable

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


def fit(name: str, train: OutcomeTable) -> Fit:
    encoded = encode_table("tfidf", train, 0)
    train = by_query_id(train)
    return Fit(name, fit_router(name, name, train, seed=0, encoded=encoded), train, encoded)


@pytest.mark.parametrize("hidden", [False, True])
def test_settings_come_from_queries_that_a_fit_had_not_seen(
    hidden: bool, make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(300)
    if hidden:
        # A wrapper that hides what calibration had not seen: another fit is made.
        monkeypatch.setattr("eval.replay.operating.CalibratedEstimator", type("Other", (), {}))
    prices = fit_prices(world.train)
    weights = (0.0, 0.05, 0.2, 1.0, 1e4)
    found = choose_settings(fit("category", world.train), prices, weights, best=1, seed=0)
    assert [each.given_up for each in found] == [None, *GIVE_UP]
    assert found[0].safe
    assert found[0].cost_save > 0.2
    saves = [each.cost_save for each in found[1:]]
    assert saves == sorted(saves)
    assert found == choose_settings(fit("category", world.train), prices, weights, best=1, seed=0)


def test_a_setting_promises_no_more_than_it_keeps(make_world: MakeWorld) -> None:
    world = make_world(600)
    prices = fit_prices(world.train)
    fitted = fit("knn", world.train)
    (promised, *_) = choose_settings(fitted, prices, (0.0,), best=1, seed=0)
    unseen = sweep(fitted.router, world.test, prices, (0.0,)).traffic[0].quality
    seen = sweep(fitted.router, fitted.train, prices, (0.0,)).traffic[0].quality
    alone = world.test.score_NA[:, 1].mean(), world.train.score_NA[:, 1].mean()
    assert promised.quality_gain == pytest.approx(unseen - alone[0], abs=0.05)
    # What it says of rows that it was fitted on would promise more.
    assert seen - alone[1] > promised.quality_gain + 0.02


def test_without_costs_there_is_one_setting(make_world: MakeWorld) -> None:
    train = make_world(90, costs=False).train
    prices = dict.fromkeys(train.experts)
    found = choose_settings(fit("category", train), prices, (0.0,), best=1, seed=0)
    assert len(found) == 1
    assert found[0].given_up is None


def test_what_cannot_be_held_out_gives_no_promise(make_world: MakeWorld) -> None:
    train = make_world(40).train
    train = replace(train, groups=("one",) * 40)
    prices = dict.fromkeys(train.experts)
    (found, *_) = choose_settings(fit("ridge", train), prices, (0.0,), best=1, seed=0)
    assert found.index == 0
    assert np.isnan(found.quality_gain)
    assert not found.safe
