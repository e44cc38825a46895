"""What one turn of the event loop has to send, sent at its end and all at once.

A busy loop reads from dozens of sockets in one turn. Were each answer sent as soon as it is there,
nearly every one would wake somebody on another core who has gone back to sleep since the last:
that takes the kernel longer than the sending itself. Those that come together wake him once.
"""

from __future__ import annotations

import asyncio


class Outbox:
    """Sends for the sockets of one event loop, in order."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: list[tuple[asyncio.Transport, bytes]] = []

    def send(self, transport: asyncio.Transport, data: bytes) -> None:
        """Send `data` before the event loop waits again.

        Whoever writes to the transport or closes it by himself has to `flush` before.
        """
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self.flush)
        self._waiting.append((transport, data))

    def flush(self) -> None:
        """Send all of it now."""
        waiting, self._waiting = self._waiting, []
        for transport, data in waiting:
            if not transport.is_closing():
                transport.write(data)
