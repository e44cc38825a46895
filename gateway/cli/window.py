"""Options that bound a span of time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from gateway.errors import ConfigError

Since = Annotated[str | None, typer.Option(help="First day or moment, e.g. 2026-11-01 (UTC).")]
Until = Annotated[str | None, typer.Option(help="First day or moment that no longer counts.")]


def day(given: str | None, otherwise: float) -> float:
    """Seconds since 1970 of an ISO date or time in UTC.

    Raises:
        ConfigError: It is neither.
    """
    if given is None:
        return otherwise
    try:
        moment = datetime.fromisoformat(given)
    except ValueError as error:
        raise ConfigError(f"{given!r} is no day; write it like 2026-11-01") from error
    return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
