"""A request's way through the limits: what covers each of its calls, and what gives back."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence

from experts.cards import ExpertCard
from experts.messages import ChatRequest, Usage
from gateway.access.accounts import Account, set_aside, settle
from gateway.access.refusals import budget_exceeded, limit_headers, shared_down, unbounded
from gateway.access.shared import (
    NotSeededError,
    RoomError,
    SharedCounters,
    SharedDownError,
    SharedTaken,
)
from gateway.access.windows import Taken, Windows
from gateway.access.worst import WorstCase, bounded, worst_case
from gateway.ids import new_id, now
from gateway.settings.access import AccessSettings

_log = logging.getLogger(__name__)
BOUNDED_HEADER = "x-pointsman-max-tokens"


class Cover:
    """One call's money.

    Attributes:
        request: What to send: as it was asked, or with its answer bounded to what is left.
    """

    __slots__ = ("_pass", "_reserved", "request")

    def __init__(self, request: ChatRequest, owner: Pass | None = None, reserved: int = 0) -> None:
        self.request = request
        self._pass = owner
        self._reserved = reserved

    def spent(self, cost_nanousd: int | None, usage: Usage | None) -> None:
        """Settle it; later calls change nothing.

        Args:
            cost_nanousd: As it is booked; None, an unknown cost, counts as nothing.
            usage: Tokens, if any were counted.
        """
        owner, self._pass = self._pass, None
        if owner is not None:
            owner.settle(self, self._reserved, cost_nanousd or 0, usage)


class Pass:
    """One request's way through the limits. `close` it when the request has ended.

    Args:
        settings: How strict to be.
        windows: Where it was counted.
        taken: What it was counted with.
        accounts: Where its money comes from.
    """

    __slots__ = (
        "_accounts",
        "_bounded_to",
        "_closed",
        "_covers",
        "_settings",
        "_taken",
        "_tokens",
        "_windows",
    )

    def __init__(
        self,
        settings: AccessSettings,
        windows: Windows,
        taken: Sequence[Taken],
        accounts: Sequence[Account],
    ) -> None:
        self._settings = settings
        self._windows = windows
        self._taken = taken
        self._accounts = accounts
        self._covers: list[Cover] = []
        self._tokens = 0
        self._bounded_to: int | None = None
        self._closed = False
        for account in accounts:
            account.passes += 1

    async def cover(self, card: ExpertCard, request: ChatRequest) -> Cover:
        """`cover_now`, for those who can wait."""
        return self.cover_now(card, request)

    def cover_now(self, card: ExpertCard, request: ChatRequest) -> Cover:
        """Set aside what a call to `card` may cost at most.

        Raises:
            ApiError: 429 when the budget is not enough for it, 403 when nothing bounds its cost.
        """
        cover = Cover(request, self)
        if self._accounts and not card.composed:
            cover = self._covered(card, request)
        self._covers.append(cover)
        return cover

    def _covered(self, card: ExpertCard, request: ChatRequest) -> Cover:
        worst = self._worst(card, request)
        if worst is None:
            return Cover(request, self)
        room = min(account.room for account in self._accounts)
        tokens = worst.tokens
        if worst.cost(tokens) > max(room, 0):
            tokens = worst.affordable(room)
            least = self._least(worst)
            if tokens < least:
                raise budget_exceeded(self._accounts, worst.cost(least), now())
        reserved = worst.cost(tokens)
        set_aside(self._accounts, reserved)
        return Cover(self._sent(request, worst, tokens), self, reserved)

    def _worst(self, card: ExpertCard, request: ChatRequest) -> WorstCase | None:
        """What to set aside; None for a price that nobody knows, where that is allowed."""
        if card.prices is None:
            if self._settings.unknown_price == "refuse":
                raise unbounded(card.expert_id, "nobody knows the price")
            return None
        worst = worst_case(card, card.prices, request, self._settings.default_max_tokens)
        if worst is None:
            raise unbounded(card.expert_id, "nothing bounds what an image or a file costs")
        return worst

    def _least(self, worst: WorstCase) -> int:
        return min(self._settings.min_answer_tokens, worst.tokens)

    def _sent(self, request: ChatRequest, worst: WorstCase, tokens: int) -> ChatRequest:
        if tokens == worst.tokens and not worst.implied:
            return request
        self._bounded_to = tokens
        return bounded(request, tokens)

    def settle(self, cover: Cover, reserved: int, cost: int, usage: Usage | None) -> None:
        """What one of its calls has cost; called by the cover, once."""
        self._covers.remove(cover)
        settle(self._accounts, reserved, cost)
        if cost > reserved and self._accounts:
            _log.warning("a call cost %d nano-dollars, at most %d were expected", cost, reserved)
        if usage is not None:
            self._tokens += usage.prompt_tokens + usage.completion_tokens

    def close(self) -> None:
        """Give back what was not used. Later calls change nothing."""
        if self._closed:
            return
        self._closed = True
        for cover in list(self._covers):
            cover.spent(None, None)
        self._end()

    def _end(self) -> None:
        for taken in self._taken:
            if taken.meter.unit == "tokens":
                self._windows.correct(taken, self._tokens)
        for account in self._accounts:
            account.passes -= 1

    def headers(self) -> dict[str, str]:
        """`x-ratelimit-*`, and how long the answer may be if a budget bounds it."""
        meters = [taken.meter for taken in self._taken]
        headers = limit_headers(self._windows.standing(meters))
        if self._bounded_to is not None:
            headers[BOUNDED_HEADER] = str(self._bounded_to)
        return headers


class FreePass(Pass):
    """The way of requests that come under no limit: one for all of them, that remembers nothing."""

    __slots__ = ()

    def cover_now(self, card: ExpertCard, request: ChatRequest) -> Cover:
        return Cover(request)

    def close(self) -> None:
        return None

    def headers(self) -> dict[str, str]:
        return {}


class SharedPass(Pass):
    """A request whose limits are counted in Valkey, or here while that is away.

    Args:
        shared: Where it was counted.
        counted: What it was counted with there.
        seed: Tells Valkey what was spent from an account.
        open_here: The accounts of this process, for when Valkey is away.
        here: Its way through them, if Valkey was away from the beginning.
    """

    __slots__ = ("_counted", "_covers_here", "_here", "_holds", "_open_here", "_seed", "_shared")

    def __init__(
        self,
        settings: AccessSettings,
        shared: SharedCounters,
        counted: Sequence[SharedTaken],
        accounts: Sequence[Account],
        seed: Callable[[Account], Awaitable[None]],
        open_here: Callable[[], Awaitable[Sequence[Account]]],
        here: Pass | None = None,
    ) -> None:
        super().__init__(settings, Windows(), (), accounts)
        self._shared = shared
        self._counted = counted
        self._seed = seed
        self._open_here = open_here
        self._here = here
        self._holds: dict[Cover, str] = {}
        self._covers_here: dict[Cover, Cover] = {}

    def cover_now(self, card: ExpertCard, request: ChatRequest) -> Cover:
        raise NotImplementedError("what Valkey counts has to be waited for")

    async def cover(self, card: ExpertCard, request: ChatRequest) -> Cover:
        cover = Cover(request, self)
        if self._here is not None:
            cover = self._covered_here(self._here, card, request)
        elif self._accounts and not card.composed:
            worst = self._worst(card, request)
            if worst is not None and worst.cost(worst.tokens):
                cover = await self._held(card, request, worst)
        self._covers.append(cover)
        return cover

    async def _held(self, card: ExpertCard, request: ChatRequest, worst: WorstCase) -> Cover:
        hold, want = new_id("hold"), worst.cost(worst.tokens)
        least = worst.cost(self._least(worst))
        try:
            granted = await self._reserved(hold, want, least)
        except RoomError as error:
            raise budget_exceeded([error.account], least, now()) from error
        except SharedDownError as error:
            if self._settings.when_shared_is_down == "closed":
                raise shared_down() from error
            accounts = await self._open_here()
            self._here = self._here or Pass(self._settings, Windows(), (), accounts)
            return self._covered_here(self._here, card, request)
        tokens = worst.tokens if granted >= want else worst.affordable(granted)
        cover = Cover(self._sent(request, worst, tokens), self, granted)
        self._holds[cover] = hold
        return cover

    def _covered_here(self, here: Pass, card: ExpertCard, request: ChatRequest) -> Cover:
        covered = here.cover_now(card, request)
        cover = Cover(covered.request, self)
        self._covers_here[cover] = covered
        return cover

    async def _reserved(self, hold: str, want: int, least: int) -> int:
        while True:
            try:
                return await self._shared.reserve(self._accounts, hold, want, least)
            except NotSeededError as error:
                await self._seed(error.account)

    def settle(self, cover: Cover, reserved: int, cost: int, usage: Usage | None) -> None:
        super().settle(cover, 0, 0, usage)
        if (covered := self._covers_here.pop(cover, None)) is not None:
            covered.spent(cost, usage)
        hold = self._holds.pop(cover, None) or new_id("hold")
        if self._accounts and (reserved or cost):
            self._shared.settle(self._accounts, hold, cost)

    def _end(self) -> None:
        for taken in self._counted:
            if taken.meter.unit == "tokens":
                self._shared.correct(taken, self._tokens)
        if self._here is not None:
            self._here.close()

    def headers(self) -> dict[str, str]:
        headers = limit_headers(self._shared.standing(taken.meter for taken in self._counted))
        here = {} if self._here is None else self._here.headers()
        return {**headers, **super().headers(), **here}
