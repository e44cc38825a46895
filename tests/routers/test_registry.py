"""Names and what they make."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint

import pytest

from routers import registry
from routers.errors import RoutingError
from routers.estimators.knn import KnnEstimator
from routers.estimators.prior import PriorEstimator
from routers.policies.uniform import UniformPolicy
from routers.registry import (
    encoder_class,
    encoder_names,
    estimator_class,
    estimator_names,
    make_encoder,
    make_estimator,
    make_policy,
    policy_names,
)


@pytest.mark.parametrize("name", estimator_names())
def test_every_estimator_carries_the_name_it_is_made_by(name: str) -> None:
    assert make_estimator(name).name == name
    assert estimator_class(name).name == name


@pytest.mark.parametrize("name", encoder_names())
def test_every_encoder_carries_the_name_it_is_made_by(name: str) -> None:
    assert make_encoder(name).name == encoder_class(name).name == name


def test_wrappers_are_read_back_but_not_made_by_name() -> None:
    assert estimator_class("calibrated").name == "calibrated"
    with pytest.raises(RoutingError, match="unknown estimator 'calibrated'"):
        make_estimator("calibrated")


@pytest.mark.parametrize("make", [make_estimator, make_encoder, make_policy, estimator_class])
def test_an_unknown_name_is_answered_with_the_known_ones(make: Callable[[str], object]) -> None:
    with pytest.raises(RoutingError, match=r"unknown \w+ 'nothing'; known are \w+, \w+"):
        make("nothing")


def test_other_packages_bring_estimators_but_cannot_replace_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    points = [
        EntryPoint(name, "routers.estimators.prior:PriorEstimator", registry.ENTRY_POINT_GROUP)
        for name in ("theirs", "knn")
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    assert "theirs" in estimator_names()
    assert isinstance(make_estimator("theirs"), PriorEstimator)
    assert isinstance(make_estimator("knn"), KnnEstimator)


def test_other_packages_bring_policies(monkeypatch: pytest.MonkeyPatch) -> None:
    brought = {
        registry.POLICY_GROUP: [
            EntryPoint("theirs", "routers.policies.uniform:UniformPolicy", registry.POLICY_GROUP)
        ]
    }
    monkeypatch.setattr(registry, "entry_points", lambda group: brought.get(group, []))
    assert {"greedy", "theirs"} <= set(policy_names())
    assert isinstance(make_policy("theirs"), UniformPolicy)
    assert "theirs" not in estimator_names()


def test_our_own_names_are_not_looked_for_in_other_packages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def others(group: str) -> list[EntryPoint]:
        asked.append(group)
        return []

    monkeypatch.setattr(registry, "entry_points", others)
    make_estimator("knn")
    make_policy("uniform")
    estimator_class("calibrated")
    assert asked == []
    with pytest.raises(RoutingError):
        make_policy("nothing")
    assert asked == [registry.POLICY_GROUP]
