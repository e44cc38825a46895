"""YAML to settings, every fault named by its file and key."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import ValidationError

from gateway.errors import ConfigError
from gateway.settings.root import Settings


def load_settings(path: Path | None) -> Settings:
    """Read and check a configuration file; without one, the defaults.

    Raises:
        ConfigError: One sentence naming the file, the key and the value at fault.
    """
    if path is None:
        return Settings()
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"'{path}' can't be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"'{path}' is no YAML: {' '.join(str(error).split())}") from error
    if data is not None and not isinstance(data, dict):
        raise ConfigError(f"'{path}' must hold keys and values, not a {type(data).__name__}")
    try:
        return Settings.model_validate(data or {})
    except ValidationError as error:
        raise ConfigError(f"'{path}': {_first_fault(error)}") from error


def _first_fault(error: ValidationError) -> str:
    fault = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in fault["loc"]) or "the whole file"
    value = fault.get("input")
    # A key or a whole section is not quoted: it may hold a secret.
    shown = f" (got {value!r})" if isinstance(value, int | float | bool) else ""
    return f"`{key}`: {fault['msg'].removeprefix('Value error, ')}{shown}"
