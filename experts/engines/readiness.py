"""When an engine is ready: not when it says so, but when its model has written a token."""

from __future__ import annotations

import time
from collections.abc import Callable

from experts.errors import EngineStartError

_POLL_S = 0.05
_TOKEN_S = 30.0


def await_token(
    writes_a_token: Callable[[float], bool],
    wait_end: Callable[[float], str | None],
    failure: Callable[[str], EngineStartError],
    timeout_s: float,
) -> None:
    """Block until the model has written a token.

    A server can say that it is healthy and still fail every request, so nothing less counts.

    Args:
        writes_a_token: Whether it does, within so many seconds.
        wait_end: Blocks so many seconds, or until the process ended; then what became of it.
        failure: What to raise, by what happened.
        timeout_s: Seconds that it may take.

    Raises:
        EngineStartError: It ended, or did not answer in time.
    """
    deadline = time.monotonic() + timeout_s
    while not writes_a_token(min(_TOKEN_S, timeout_s)):
        end = wait_end(_POLL_S)
        if end is not None:
            raise failure(end)
        if time.monotonic() >= deadline:
            raise failure(f"gave no answer within {timeout_s:g} s")
