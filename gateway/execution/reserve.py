"""The seam between attempts and budgets: money is set aside before each call, settled after it."""

from __future__ import annotations

from typing import Protocol

from experts.cards import ExpertCard
from experts.messages import ChatRequest, Usage


class Covered(Protocol):
    """The money of one call."""

    @property
    def request(self) -> ChatRequest:
        """What to send: as it was asked, or with `max_tokens` bounded to what is left."""
        ...

    def spent(self, cost_nanousd: int | None, usage: Usage | None) -> None:
        """Settle it: dollars times 1e9, None if unknown, and the tokens if any were counted."""
        ...


class Reservation(Protocol):
    """What one request may spend.

    `cover` is called before every attempt, those of a composition's children included, and what it
    returned is settled once, however the attempt ends. The card of a composition is `composed`: its
    children are what costs.
    """

    async def cover(self, card: ExpertCard, request: ChatRequest) -> Covered:
        """Set aside what the call may cost at most.

        Raises:
            ApiError: The budget does not allow the call; no further attempt is made.
        """
        ...


class Free:
    """A call that nobody counts."""

    def __init__(self, request: ChatRequest) -> None:
        self.request = request

    def spent(self, cost_nanousd: int | None, usage: Usage | None) -> None:
        return None


class Unlimited:
    """Sets nothing aside."""

    async def cover(self, card: ExpertCard, request: ChatRequest) -> Free:
        return Free(request)


UNLIMITED = Unlimited()
