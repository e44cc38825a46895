"""What every section of the configuration shares."""

from __future__ import annotations

import os
import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict

from gateway.errors import ConfigError

_REFERENCES = ("env:", "os.environ/")
_FIT = re.compile(r"[\x20-\x7e]*")


class Frozen(BaseModel):
    """Immutable, and a misspelt key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)


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
    """`env:NAME` to the variable's value; else the value itself, without blanks around it.

    Raises:
        ConfigError: The variable is not set, or no header could hold what it says.
    """
    name = variable(value)
    if name is not None and name not in os.environ:
        raise ConfigError(f"the environment variable {name!r} is not set")
    # Files that became variables end in a line end.
    found = (value if name is None else os.environ[name]).strip()
    if not _FIT.fullmatch(found):
        holder = "it" if name is None else f"the environment variable {name!r}"
        raise ConfigError(f"{holder} holds a character that is not printable ASCII")
    return found
