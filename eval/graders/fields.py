"""Reads the fields of a check and says which one is wrong."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from eval.errors import GraderConfigError
from eval.graders.base import Fields


def refuse_unknown(fields: Fields, known: Collection[str]) -> None:
    """Raise for the first field that this kind of check does not have."""
    for name in fields:
        if name not in known:
            raise GraderConfigError(
                name, f"unknown; this kind has {', '.join(map(repr, sorted(known)))}"
            )


def required(fields: Fields, name: str) -> Any:
    """The value of a field that must be there."""
    if name not in fields:
        raise GraderConfigError(name, "missing")
    return fields[name]


def text(fields: Fields, name: str) -> str:
    """A text that is not empty."""
    value = required(fields, name)
    if not isinstance(value, str) or not value.strip():
        raise GraderConfigError(name, f"must be a text that is not empty, got {value!r}")
    return value


def texts(fields: Fields, name: str) -> tuple[str, ...]:
    """A list of one or more texts, none of them empty."""
    values = required(fields, name)
    if not isinstance(values, list | tuple) or not values:
        raise GraderConfigError(name, f"must be a list of texts that is not empty, got {values!r}")
    for value in values:
        if not isinstance(value, str) or not value.strip():
            raise GraderConfigError(name, f"must hold texts that are not empty, got {value!r}")
    return tuple(values)
