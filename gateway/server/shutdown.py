"""How a request under way ends early: its client leaves, or the process is about to end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from gateway.errors import ApiError

SHUTTING_DOWN = "shutting_down"


class ClientLeftError(Exception):
    """Nobody is there to answer any more."""


async def stop(tasks: Collection[asyncio.Task[None]]) -> None:
    """Cancel work that nobody waits for; returns when all of it has ended."""
    ending = list(tasks)
    for task in ending:
        task.cancel()
    if ending:
        await asyncio.wait(ending)


class Shutdown:
    """Tells requests under way that the process ends, while they can still say so to clients.

    For the event loop only.

    Attributes:
        begun: The time that requests under way were given is over.
    """

    def __init__(self) -> None:
        self.begun = False
        self._calls: dict[int, Callable[[], None]] = {}
        self._next = 0

    @contextmanager
    def calling(self, call: Callable[[], None]) -> Iterator[None]:
        """While the context is open, `call` is called when the time is over; at once if it is."""
        number, self._next = self._next, self._next + 1
        self._calls[number] = call
        try:
            if self.begun:
                call()
            yield
        finally:
            del self._calls[number]

    def begin(self) -> None:
        """The time is over."""
        self.begun = True
        for call in list(self._calls.values()):
            call()


def shutting_down() -> ApiError:
    """What is said to clients whose answer can't be finished."""
    return ApiError(
        503,
        "the gateway is shutting down; try again",
        type="server_error",
        code=SHUTTING_DOWN,
        headers={"retry-after": "1"},
    )
