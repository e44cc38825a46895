"""What every section of the configuration shares."""

from __future__ import annotations

import os

from pydantic import BaseModel, ConfigDict

from gateway.errors import ConfigError


class Frozen(BaseModel):
    """Immutable, and a misspelt key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def secret(value: str) -> str:
    """`env:NAME` (or LiteLLM's `os.environ/NAME`) to the variable's value; else the value itself.

    Raises:
        ConfigError: The variable is not set.
    """
    for prefix in ("env:", "os.environ/"):
        if value.startswith(prefix):
            name = value.removeprefix(prefix)
            if name not in os.environ:
                raise ConfigError(f"the environment variable {name!r} is not set")
            return os.environ[name]
    return value
