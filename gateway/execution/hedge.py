"""Two calls for one answer: the second begins when the first is silent, the first token wins."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

import anyio

from experts.errors import ExpertCallError
from experts.messages import Event
from gateway.errors import GatewayError

Calls = AsyncGenerator[Event, None]
Entrants = dict[asyncio.Task[Event | None], Calls]
"""Who is waited for: the task of its first event, and its events."""


class Race:
    """Asks a second expert when the first has said nothing for a while.

    Only the first event of each call is waited for in a task; whoever has it wins, the other is
    cancelled, and the winner's events are read on in the caller's own task.

    Args:
        first: The call that is made at once.
        second: Makes the other call, or None if nobody can be asked.
        after_s: Silence after which it is made, > 0.

    Attributes:
        failures: Of calls that failed while the other went on.
        second_won: Whose events these are.
    """

    def __init__(self, first: Calls, second: Callable[[], Calls | None], after_s: float) -> None:
        self._calls = [first]
        self._second = second
        self._after_s = after_s
        self.failures: list[ExpertCallError] = []
        self.second_won = False

    async def events(self) -> Calls:
        """The events of the winner.

        Raises:
            ExpertCallError, GatewayError: All calls failed or were not made; this is the last.
        """
        first = self._calls[0]
        entrants: Entrants = {_start(first): first}
        try:
            winner = await self._winner(entrants)
            source = entrants.pop(winner)
            self.second_won = source is not first
            await _stop(entrants)
            event = winner.result()
            while event is not None:
                yield event
                event = await anext(source, None)
        finally:
            await _stop(entrants)
            for call in self._calls:
                await call.aclose()

    async def _winner(self, entrants: Entrants) -> asyncio.Task[Event | None]:
        after_s: float | None = self._after_s
        while True:
            done, _ = await asyncio.wait(
                entrants, timeout=after_s, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                error = task.exception()
                if not isinstance(error, ExpertCallError | GatewayError) or len(entrants) == 1:
                    return task
                # One that was not made, for want of money say, says nothing of the other one.
                if isinstance(error, ExpertCallError):
                    self.failures.append(error)
                del entrants[task]
            if not done and after_s is not None:
                after_s = None
                if (second := self._second()) is not None:
                    self._calls.append(second)
                    entrants[_start(second)] = second


def _start(source: Calls) -> asyncio.Task[Event | None]:
    async def first_event() -> Event | None:
        return await anext(source, None)

    return asyncio.create_task(first_event())


async def _stop(entrants: Entrants) -> None:
    """Cancel calls that are not needed any more and see them end."""
    with anyio.CancelScope(shield=True):
        for task in entrants:
            task.cancel()
        if entrants:
            await asyncio.wait(entrants)
        for task, source in entrants.items():
            # A loser that failed at the same moment has its failure on record.
            if not task.cancelled():
                task.exception()
            await source.aclose()
    entrants.clear()
