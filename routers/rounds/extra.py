"""The libraries that training needs, which are optional."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from routers.errors import MissingExtraError


def needs(module: str) -> Any:
    """The module of that name.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtraError("training a driver of rounds", "rl") from error
