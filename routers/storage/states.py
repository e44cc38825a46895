"""States within states: how an object keeps the fitted parts that it is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from routers.errors import RoutingError
from routers.records import State

_SEPARATOR = "/"
T = TypeVar("T")


def join_states(own: State, parts: Mapping[str, State]) -> State:
    """One state that holds `own` and every part under its name."""
    params, arrays = dict(own[0]), dict(own[1])
    for name, (part_params, part_arrays) in parts.items():
        params[name] = part_params
        arrays.update({name + _SEPARATOR + key: array for key, array in part_arrays.items()})
    return params, arrays


def part_state(state: State, name: str) -> State:
    """The part that `join_states` put in under `name`."""
    params, arrays = state
    prefix = name + _SEPARATOR
    inside = {key.removeprefix(prefix): arrays[key] for key in arrays if key.startswith(prefix)}
    return params[name], inside


def fitted(part: T | None) -> T:
    """`part`, unless it is still None.

    Raises:
        RoutingError: It was asked to predict before it was fitted.
    """
    if part is None:
        raise RoutingError("this estimator has not been fitted; call fit or from_state first")
    return part
