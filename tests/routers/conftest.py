"""What tests of routers share."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def forget_torch(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From its call on, torch can't be imported."""
    there = builtins.__import__

    def without_torch(module: str, *rest: Any, **named: Any) -> Any:
        if module == "torch":
            raise ImportError(module)
        return there(module, *rest, **named)

    return lambda: monkeypatch.setattr(builtins, "__import__", without_torch)
