"""Several workers count apart: then limits have to be counted where all of them look."""

from __future__ import annotations

from gateway.errors import ConfigError
from gateway.settings.root import Settings


def counts_alone(settings: Settings) -> bool:
    """Whether what this process counts is all there is, as far as this machine goes."""
    return settings.server.workers == 1 or settings.access.shared is not None


def check_sharing(settings: Settings) -> None:
    """Raises ConfigError rather than let each of several workers spend the whole of a limit."""
    limited = any(key.limits or key.session_limits for key in settings.keys)
    limited |= bool(settings.judges)
    limited |= any(project.limits for project in settings.access.projects.values())
    if limited and not counts_alone(settings):
        raise ConfigError(
            f"{settings.server.workers} workers can't keep limits together: "
            "set access.shared to a Valkey server, or server.workers to 1"
        )
