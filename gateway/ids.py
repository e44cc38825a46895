"""Identifiers that sort by time, and the request clock."""

from __future__ import annotations

import os
import time

_CHANCE_BYTES = 10
_AT_ONCE = 4096


class _Chance:
    """Bytes of the system's random source, fetched many at a time: asking for them is slow."""

    def __init__(self) -> None:
        self.forget()
        # A child must not hand out what its parent does.
        os.register_at_fork(after_in_child=self.forget)

    def forget(self) -> None:
        self._left: list[bytes] = []

    def take(self) -> bytes:
        try:
            # Taking from a list is atomic: no two threads get the same.
            return self._left.pop()
        except IndexError:
            many = os.urandom(_CHANCE_BYTES * _AT_ONCE)
            fresh = [many[at : at + _CHANCE_BYTES] for at in range(0, len(many), _CHANCE_BYTES)]
            mine = fresh.pop()
            self._left = fresh
            return mine


_chance = _Chance()


def new_id(prefix: str) -> str:
    """`prefix-` and 32 hex digits: 48 bits of milliseconds, then 80 bits of chance."""
    return f"{prefix}-{time.time_ns() // 1_000_000:012x}{_chance.take().hex()}"


def now() -> float:
    """Seconds since 1970, UTC."""
    return time.time()
