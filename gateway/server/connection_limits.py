"""Bounds what one connection may cost: time, heads, pipelines, answers that nobody takes.

uvicorn limits how long a connection is idle between two requests and nothing else. A client that
sends a byte a minute, or never reads its answer, would keep a socket, a task and an expert's slot
for ever. One sweep now and then over all connections costs less than a timer for each request.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

from gateway.server.files import room_for_clients
from gateway.settings.server import ServerSettings
from gateway.state import Gateway

LINGER_S = 2.0
"""How long a client whose request was refused has to read why."""
_TAKEN_BYTES = 16 * 1024
"""An answer of which so much was taken within `write_s` goes on."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """See `ServerSettings` on each; seconds and counts."""

    head_s: float = 15.0
    body_s: float = 30.0
    write_s: float = 30.0
    keep_alive_s: float = 75.0
    grace_s: float = 25.0
    max_head_bytes: int = 64 * 1024
    max_headers: int = 128
    max_connections: int = 10_000

    @classmethod
    def of(cls, server: ServerSettings) -> ConnectionLimits:
        """What the settings say."""
        return cls(
            server.head_s,
            server.body_s,
            server.write_s,
            server.keep_alive_s,
            server.grace_s,
            server.max_head_bytes,
            server.max_headers,
            min(server.max_connections, room_for_clients()),
        )

    @property
    def sweep_s(self) -> float:
        """Between two sweeps: a fraction of the shortest wait."""
        shortest = min(self.head_s, self.body_s, self.write_s, self.keep_alive_s, LINGER_S)
        return max(0.05, min(1.0, shortest / 4))


class Watched(Protocol):
    """A connection that is looked after."""

    def check(self, now: float) -> None:
        """Close it if its client kept us waiting for too long; `now` is the event loop's time."""

    def idle_since(self) -> float | None:
        """Since when nothing is asked over it; None: something is."""

    def make_room(self) -> None:
        """Close it for the sake of others."""


class Untaken:
    """How long a client has taken nothing worth mentioning of what waits for it."""

    def __init__(self) -> None:
        self._left = 0
        self._since: float | None = None

    def reset(self) -> None:
        """Nothing waits, or all of it was taken."""
        self._since = None

    def for_s(self, left: int, now: float) -> float:
        """Seconds, when `left` bytes wait at the time `now`."""
        if not left:
            self._since = None
        elif self._since is None or left <= self._left - _TAKEN_BYTES:
            self._left, self._since = left, now
        return 0.0 if self._since is None else now - self._since


class Sweeper:
    """Looks after all connections of one server.

    Args:
        loop: That they live in.
        limits: How long each may take, and how many there may be.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, limits: ConnectionLimits) -> None:
        self._loop = loop
        self._limits = limits
        # In the order of their arrival: time alone does not tell them apart in a burst.
        self._connections: dict[Watched, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._stopping = False

    def enter(self, connection: Watched) -> bool:
        """Look after a new connection; False if there is no room for it."""
        if len(self._connections) >= self._limits.max_connections:
            self._make_room()
        if len(self._connections) >= self._limits.max_connections:
            return False
        self._connections[connection] = None
        if self._timer is None:
            self._timer = self._loop.call_later(self._limits.sweep_s, self._sweep)
        return True

    def leave(self, connection: Watched) -> None:
        """It is closed."""
        self._connections.pop(connection, None)

    def _sweep(self) -> None:
        self._timer = None
        now = self._loop.time()
        for connection in list(self._connections):
            connection.check(now)
        if self._connections:
            self._timer = self._loop.call_later(self._limits.sweep_s, self._sweep)

    def _make_room(self) -> None:
        idle = [
            (since, number, connection)
            for number, connection in enumerate(self._connections)
            if (since := connection.idle_since()) is not None
        ]
        # Some at a time: to look for the longest among ten thousand takes a few milliseconds.
        for _, _, connection in sorted(idle)[: 1 + len(self._connections) // 100]:
            self._connections.pop(connection, None)
            connection.make_room()

    def stop(self, gateway: Gateway) -> None:
        """The server is told to stop: requests under way have so much time left."""
        if not self._stopping:
            self._stopping = True
            self._loop.call_later(self._limits.grace_s, gateway.lasting.shutdown.begin)
