"""Recipes of routers."""

from __future__ import annotations

import pytest

from routers.errors import RoutingError
from routers.fitting.recipe import Recipe
from routers.registry import DEFAULT_ESTIMATOR


@pytest.mark.parametrize(
    ("text", "recipe"),
    [
        ("knn", Recipe("knn", "tfidf")),
        ("ridge+static", Recipe("ridge", "static")),
        ("calibrated:ridge+static", Recipe("ridge", "static", ("calibrated",))),
    ],
)
def test_it_names_wrappers_an_estimator_and_maybe_an_encoder(text: str, recipe: Recipe) -> None:
    assert Recipe.read(text) == recipe


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("+static", "unknown estimator ''"),
        ("knn+", "unknown encoder ''; known are .*static"),
        ("knn+static+tfidf", "unknown encoder 'static\\+tfidf'"),
        ("static", "unknown estimator 'static'"),
        ("knn:knn", "unknown wrapper 'knn'; known are .*calibrated"),
    ],
)
def test_something_unknown_in_it_is_refused(text: str, fault: str) -> None:
    with pytest.raises(RoutingError, match=fault):
        Recipe.read(text)


def test_wrappers_go_round_what_is_calibrated() -> None:
    made = Recipe("knn", wrappers=("calibrated",)).unfitted(calibrate=False)
    assert (made.name, made.inner.name) == ("calibrated", "knn")  # type: ignore[attr-defined]
    assert Recipe("knn").unfitted(calibrate=False).name == "knn"


def test_the_default_is_a_recipe_with_a_name() -> None:
    assert Recipe.read("default") == Recipe.read(DEFAULT_ESTIMATOR)
