"""Names of estimators, encoders and policies, and how to make each.

Built-in ones and those that other packages bring (entry points of the group
`pointsman.estimators`) are loaded the same way, when they are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, cast

from routers.base import Encoder, Estimator, Policy
from routers.errors import RoutingError

ENTRY_POINT_GROUP = "pointsman.estimators"
DEFAULT_ESTIMATOR = "average"
DEFAULT_ENCODER = "tfidf"

_ESTIMATORS: Mapping[str, str] = {
    "average": "routers.estimators.averaged:AveragedEstimator",
    "category": "routers.estimators.category:CategoryEstimator",
    "cluster": "routers.estimators.cluster:ClusterEstimator",
    "knn": "routers.estimators.knn:KnnEstimator",
    "prior": "routers.estimators.prior:PriorEstimator",
    "ridge": "routers.estimators.ridge:RidgeEstimator",
}
_WRAPPERS: Mapping[str, str] = {
    "calibrated": "routers.estimators.calibrated:CalibratedEstimator",
}
_ENCODERS: Mapping[str, str] = {
    "hashing": "routers.encoders:HashingEncoder",
    "static": "routers.static:StaticEncoder",
    "tfidf": "routers.encoders:TfidfSvdEncoder",
}
_POLICIES: Mapping[str, str] = {
    "greedy": "routers.policies.greedy:GreedyUtilityPolicy",
    "uniform": "routers.policies.uniform:UniformPolicy",
}


def estimator_names() -> tuple[str, ...]:
    """Every name that `make_estimator` knows, sorted."""
    return tuple(sorted(_known_estimators()))


def encoder_names() -> tuple[str, ...]:
    """Every name that `make_encoder` knows, sorted."""
    return tuple(sorted(_ENCODERS))


def split_recipe(recipe: str) -> tuple[str, str]:
    """The estimator and the encoder of `knn` (with the default encoder) or `knn+static`.

    Raises:
        RoutingError: There is no such estimator or encoder; the message lists those that exist.
    """
    estimator, plus, encoder = recipe.partition("+")
    _check("estimator", estimator, _known_estimators())
    if plus:
        _check("encoder", encoder, _ENCODERS)
    return estimator, encoder if plus else DEFAULT_ENCODER


def make_estimator(name: str) -> Estimator:
    """A new, unfitted estimator with its default settings.

    Raises:
        RoutingError: No estimator has that name; the message lists those that exist.
    """
    return cast(Estimator, _load("estimator", name, _known_estimators())())


def estimator_class(name: str) -> type[Estimator]:
    """The class whose artifacts carry `name`, wrappers included.

    Raises:
        RoutingError: No estimator has that name.
    """
    return cast("type[Estimator]", _load("estimator", name, {**_known_estimators(), **_WRAPPERS}))


def make_encoder(name: str) -> Encoder:
    """A new encoder with its default settings.

    Raises:
        RoutingError: No encoder has that name; the message lists those that exist.
    """
    return encoder_class(name)()


def encoder_class(name: str) -> type[Encoder]:
    """The class whose artifacts carry `name`.

    Raises:
        RoutingError: No encoder has that name.
    """
    return cast("type[Encoder]", _load("encoder", name, _ENCODERS))


def make_policy(name: str) -> Policy:
    """The policy of that name.

    Raises:
        RoutingError: No policy has that name; the message lists those that exist.
    """
    return cast(Policy, _load("policy", name, _POLICIES)())


def _known_estimators() -> dict[str, str]:
    plugins = {point.name: point.value for point in entry_points(group=ENTRY_POINT_GROUP)}
    return {**plugins, **_ESTIMATORS}


def _load(what: str, name: str, known: Mapping[str, str]) -> Callable[[], Any]:
    _check(what, name, known)
    return cast("Callable[[], Any]", EntryPoint(name, known[name], ENTRY_POINT_GROUP).load())


def _check(what: str, name: str, known: Mapping[str, str]) -> None:
    if name not in known:
        raise RoutingError(f"unknown {what} {name!r}; known are {', '.join(sorted(known))}")
