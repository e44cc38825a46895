"""How many files, sockets included, this process may have open."""

from __future__ import annotations

import resource
from contextlib import suppress

_ENOUGH = 1 << 20
_OURS = 256
"""Files that are neither a client's connection nor one to an expert: database, log, listeners."""


def raise_file_limit() -> None:
    """Ask for as many as the system gives to anybody; often only 1,024 are given at first."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    # Some systems say that there is no limit and have one: then what was given must do.
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def room_for_clients() -> int:
    """Connections of clients that leave enough for as many to experts and what else we open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _ENOUGH
    return max(16, (soft - _OURS) // 2)
