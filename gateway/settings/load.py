"""YAML to settings, every fault named by its place in the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gateway.errors import ConfigError
from gateway.settings.base import secret
from gateway.settings.document import Document, read_document
from gateway.settings.explain import faults_of
from gateway.settings.faults import Fault, FaultyConfigError
from gateway.settings.litellm.translate import from_litellm
from gateway.settings.references import broken_references
from gateway.settings.root import Settings
from gateway.settings.shape import secrets_in


@dataclass(frozen=True, slots=True)
class Configuration:
    """Settings and the text that they come from."""

    settings: Settings
    document: Document
    warnings: tuple[Fault, ...] = ()

    def unset(self) -> list[Fault]:
        """A fault for every secret that can't be used: `env:NAME` of a variable that is not set."""
        faults = []
        for place, value in secrets_in(self.settings):
            try:
                secret(value)
            except ConfigError as error:
                faults.append(self.document.fault(place, str(error)))
        return faults


def load_settings(path: Path | None) -> Settings:
    """The settings of a configuration file; without one, the defaults.

    Raises:
        ConfigError: Every fault, named by file, line, column and key.
    """
    return load_configuration(path).settings


def load_configuration(path: Path | None, server: Mapping[str, Any] | None = None) -> Configuration:
    """Like `load_settings`, with the text; `server` are settings from the command line."""
    if path is None:
        return read_configuration("", "defaults", server)
    return read_configuration(read_text(path), str(path), server)


def read_text(path: Path) -> str:
    """A file's text, or ConfigError."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"'{path}' can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"'{path}' is no UTF-8 text: {error.reason}") from error


def read_configuration(
    text: str, name: str, server: Mapping[str, Any] | None = None
) -> Configuration:
    """Check a configuration given as text.

    Raises:
        FaultyConfigError: Every fault, under `name`.
    """
    document, warnings = from_litellm(read_document(text, name))
    section = document.data.get("server", {})
    if server and isinstance(section, dict):
        document.data["server"] = {**section, **server}
    try:
        settings = Settings.model_validate(document.data)
    except ValidationError as error:
        # Names are checked once all values are right; telling both at once saves a round.
        names = [document.fault(*problem) for problem in broken_references(document.data)]
        # The settings find the same, but at places in their own form of what is written.
        told = {fault.message for fault in names}
        rest = (each for each in faults_of(error, document, Settings) if each.message not in told)
        raise FaultyConfigError([*names, *rest]) from error
    return Configuration(settings, document, tuple(warnings))
