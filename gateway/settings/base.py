"""What every section of the configuration shares."""

from __future__ import annotations

import os
from typing import Annotated

from pydantic import BaseModel, ConfigDict

from gateway.errors import ConfigError

_REFERENCES = ("env:", "os.environ/")


class Frozen(BaseModel):
    """Immutable, and a misspelt key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Mark:
    """Says something of a setting beside its type; `gateway.settings.shape` reads it."""


SECRET = Mark()
"""The value is shown to nobody: not in faults, logs, `repr` or `/admin/config`."""
SECRET_URL = Mark()
"""A URL that may hold a password: shown without it."""
RESTART = Mark()
"""The value is used once, at the start: a reload that changes it is refused."""

Secret = Annotated[str, SECRET]
"""A secret, or `env:NAME` for one."""
SecretUrl = Annotated[str, SECRET_URL]
"""A URL with a password in it, or `env:NAME` for one."""


def variable(value: str) -> str | None:
    """The environment variable that `env:NAME` (or LiteLLM's `os.environ/NAME`) names, if any."""
    for prefix in _REFERENCES:
        if value.startswith(prefix):
            return value.removeprefix(prefix)
    return None


def secret(value: str) -> str:
    """`env:NAME` to the variable's value; else the value itself.

    Raises:
        ConfigError: The variable is not set.
    """
    name = variable(value)
    if name is None:
        return value
    if name not in os.environ:
        raise ConfigError(f"the environment variable {name!r} is not set")
    return os.environ[name]
