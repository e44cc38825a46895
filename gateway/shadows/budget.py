"""The money of shadow calls: of a period, apart from every caller's, set aside before each call."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from experts.cards import ExpertCard
from experts.messages import ChatRequest, Usage
from gateway.access.accounts import Account, period
from gateway.access.meters import Meter
from gateway.access.worst import worst_case
from gateway.errors import ApiError
from gateway.execution.reserve import Free
from gateway.ids import now
from gateway.settings.access import Limit


class ShadowBudget:
    """One budget; a `Reservation` for the calls that draw on it. Lives on the event loop.

    Args:
        limit: Dollars of a period.
        spent: What the ledger says was spent in this one already, in nano-dollars.
        default_tokens: Longest answer that is counted with where nobody says how long it may be.
        clock: Seconds since 1970.
    """

    def __init__(
        self,
        limit: Limit,
        spent: int = 0,
        default_tokens: int = 4096,
        clock: Callable[[], float] = now,
    ) -> None:
        self._meter = Meter("shadow", "shadow", limit)
        self._default_tokens = default_tokens
        self._clock = clock
        self._account = self._open(spent)

    @property
    def limit(self) -> Limit:
        return self._meter.limit

    @property
    def account(self) -> Account:
        """That of the period that it is now."""
        until = self._account.until
        if until is not None and self._clock() >= until:
            self._account = self._open(0)
        return self._account

    def allows(self, cards: Iterable[ExpertCard], request: ChatRequest) -> bool:
        """Whether there is enough for asking all of them, at worst."""
        costs = [self._worst(card, request) for card in cards]
        known = [cost for cost in costs if cost is not None]
        return len(known) == len(costs) and sum(known) <= self.account.room

    def set_aside(self, card: ExpertCard, request: ChatRequest) -> Callable[[], None]:
        """Keep what a call may cost until what is returned is called, once."""
        account, worst = self.account, self._worst(card, request) or 0
        account.reserved += worst

        def give_back() -> None:
            account.reserved -= worst

        return give_back

    async def cover(self, card: ExpertCard, request: ChatRequest) -> Free | _Cover:
        """See `Reservation`.

        Raises:
            ApiError: There is not enough, or nobody can say how much it takes.
        """
        if card.composed:
            return Free(request)
        worst = self._worst(card, request)
        if worst is None or worst > self.account.room:
            raise ApiError(429, "the budget of shadow calls is spent", code="budget_exceeded")
        return _Cover(request, self.account, worst)

    def _worst(self, card: ExpertCard, request: ChatRequest) -> int | None:
        """Nano-dollars; None where nothing bounds them. What composes costs by whom it asks."""
        if card.composed and card.prices is None:
            return 0
        if card.prices is None:
            return None
        worst = worst_case(card, card.prices, request, self._default_tokens)
        return None if worst is None else worst.cost(worst.tokens)

    def _open(self, spent: int) -> Account:
        since, until = period(self._meter.limit.per, self._clock())
        return Account(self._meter, since, until, spent)


class _Cover:
    """One call's money."""

    def __init__(self, request: ChatRequest, account: Account, reserved: int) -> None:
        self.request = request
        self._account = account
        self._reserved = reserved
        account.reserved += reserved

    def spent(self, cost_nanousd: int | None, usage: Usage | None) -> None:
        """Settle it; an unknown cost counts as the most that it can be."""
        account, reserved = self._account, self._reserved
        account.reserved -= reserved
        account.spent += reserved if cost_nanousd is None else cost_nanousd
