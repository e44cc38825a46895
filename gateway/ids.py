"""Identifiers that sort by time, and the request clock."""

from __future__ import annotations

import os
import time

_CHANCE_BYTES = 10
_AT_ONCE = 4096


_chance: list[str] = []
_latest = [(0, "")]
"""The last millisecond, and its digits: many marks share them."""
# A child must not hand out what its parent does.
os.register_at_fork(after_in_child=_chance.clear)


def new_id(prefix: str) -> str:
    """`prefix-` and a mark, see `new_mark`."""
    return f"{prefix}-{new_mark()}"


def new_mark() -> str:
    """32 hex digits that nobody else has: 48 bits of milliseconds, then 80 bits of chance."""
    try:
        # Taking from a list is atomic: no two threads get the same.
        chance = _chance.pop()
    except IndexError:
        chance = _fetched()
    milliseconds = time.time_ns() // 1_000_000
    before, digits = _latest[0]
    if milliseconds != before:
        digits = f"{milliseconds:012x}"
        _latest[0] = milliseconds, digits
    return digits + chance


def _fetched() -> str:
    """Hex digits of the system's random source, of which it leaves many: asking it is slow."""
    many = os.urandom(_CHANCE_BYTES * _AT_ONCE).hex()
    digits = 2 * _CHANCE_BYTES
    mine, *others = (many[at : at + digits] for at in range(0, len(many), digits))
    _chance.extend(others)
    return mine


def now() -> float:
    """Seconds since 1970, UTC."""
    return time.time()
