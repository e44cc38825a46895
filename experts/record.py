"""Records that are made for every request: a frozen dataclass to whoever reads or checks the code.

`@dataclass(frozen=True)` sets each field through `object.__setattr__`, which takes six times as
long as an assignment, and a request makes a dozen of them. So mypy alone keeps these from changes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(*, eq: bool = True) -> Callable[[type[T]], type[T]]:
    """A slotted dataclass that nothing assigns to once it is made.

    Args:
        eq: Whether records of equal fields are equal, and have the same hash.
    """

    def made(cls: type[T]) -> type[T]:
        return dataclass(slots=True, eq=eq, unsafe_hash=eq)(cls)

    return made
