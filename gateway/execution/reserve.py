"""The seam between attempts and budgets: money is set aside before each call, settled after it."""

from __future__ import annotations

from typing import Protocol

from experts.cards import ExpertCard
from experts.messages import ChatRequest, Usage


class Reservation(Protocol):
    """What one request may spend.

    `cover` is called before every attempt, those of a composition's children included, and each
    call that returned is followed by one `spent`, however the attempt ends. The card of a
    composition has no prices: its children are what costs.
    """

    async def cover(self, card: ExpertCard, request: ChatRequest) -> ChatRequest:
        """Set aside what the call may cost at most.

        Returns:
            The request to send: the same, or one with `max_tokens` bounded to what is left.

        Raises:
            ApiError: The budget does not allow the call; no further attempt is made.
        """
        ...

    def spent(self, cost_nanousd: int | None, usage: Usage | None) -> None:
        """Settle it: dollars times 1e9, None if unknown, and the tokens if any were counted."""
        ...


class Unlimited:
    """Sets nothing aside."""

    async def cover(self, card: ExpertCard, request: ChatRequest) -> ChatRequest:
        return request

    def spent(self, cost_nanousd: int | None, usage: Usage | None) -> None:
        return None


UNLIMITED = Unlimited()
