"""What the server's own cycles have, and requests of the fast path need not."""

from __future__ import annotations


class _NoEvent:
    def set(self) -> None:
        """Nobody waits for it."""


NOBODY_WAITS = _NoEvent()
