"""Keeps the bodies of all requests under way within a bound, whatever each of them holds."""

from __future__ import annotations

from gateway.errors import ApiError

_COPIES = 4
"""A body as it came, as text in objects, as it is sent on, and as the ledger keeps it."""
_VALUE_BYTES = 64
"""One value of a list or an object in memory; a list or an object itself is worth two."""


def weight(raw: bytes) -> int:
    """Bytes of memory that a JSON body may come to; what stands in strings is counted too.

    A body of 32 MB that is nothing but empty lists becomes 800 MB of objects.
    """
    values = raw.count(b",") + 2 * (raw.count(b"[") + raw.count(b"{"))
    return _COPIES * len(raw) + _VALUE_BYTES * values


class Bodies:
    """What the bodies of all requests under way come to.

    Attributes:
        held: Bytes.
    """

    def __init__(self) -> None:
        self.held = 0


class BodyHold:
    """One request's share of it, given back once.

    Args:
        bodies: Those of all requests.
        most: What they may come to together.
    """

    __slots__ = ("_bodies", "_held", "_most")

    def __init__(self, bodies: Bodies, most: int) -> None:
        self._bodies = bodies
        self._most = most
        self._held = 0

    def expect(self, size: int) -> None:
        """A body of `size` bytes is on its way.

        Raises:
            ApiError: 413, there will never be room for it; 503, there is none just now.
        """
        self._grow(_COPIES * size)

    def fill(self, raw: bytes) -> None:
        """It is here; raises as `expect` does."""
        self._grow(weight(raw))

    def _grow(self, needed: int) -> None:
        more = max(0, needed - self._held)
        if needed > self._most:
            raise ApiError(413, "the body holds too much", code="body_too_large")
        if self._bodies.held + more > self._most:
            raise ApiError(
                503,
                "the gateway has no room for the body just now; try again",
                type="server_error",
                code="bodies_full",
                headers={"retry-after": "1"},
            )
        self._bodies.held += more
        self._held += more

    def release(self) -> None:
        """The request is over."""
        self._bodies.held -= self._held
        self._held = 0
