"""Identifiers that sort by time, and the request clock."""

from __future__ import annotations

import os
import time


def new_id(prefix: str) -> str:
    """`prefix-` and 32 hex digits: 48 bits of milliseconds, then 80 bits of chance."""
    return f"{prefix}-{time.time_ns() // 1_000_000:012x}{os.urandom(10).hex()}"


def now() -> float:
    """Seconds since 1970, UTC."""
    return time.time()
