from __future__ import annotations

import pytest

from gateway.cli.evaluate import form_of, learned_routers, pair_of
from gateway.errors import ConfigError
from routers.estimators.ridge import RidgeEstimator
from routers.recipe import Recipe
from routers.registry import estimator_names


def test_all_is_the_default_and_every_estimator_that_learns() -> None:
    names, _ = learned_routers()
    assert names[0] == "default"
    assert "prior" not in names
    recipes = [Recipe.read(name) for name in names]
    assert len(set(recipes)) == len(recipes)
    assert {"knn", "category"} <= {recipe.estimator for recipe in recipes}


def test_slow_ones_are_left_out_with_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RidgeEstimator, "slow", True, raising=False)
    names, notes = learned_routers()
    assert "ridge" in estimator_names()
    assert "ridge" not in names
    assert any("ridge" in note and "no part in 'all'" in note for note in notes)


def test_a_pair_is_two_routers() -> None:
    assert pair_of("knn,ridge+static") == ("knn", "ridge+static")
    for text in ("knn", "knn,", ",knn", "knn,ridge,average", "knn,knn"):
        with pytest.raises(ConfigError, match="must name two routers"):
            pair_of(text)


def test_the_format_is_recognised_unless_it_is_named() -> None:
    assert form_of("auto") is None
    assert form_of("routerbench") == "routerbench"
