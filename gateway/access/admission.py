"""Lets a request in: counted with every limit, its money set aside before it is spent."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Protocol

import anyio

from experts.cards import ExpertCard
from experts.messages import ChatRequest, Usage
from gateway.access.accounts import Account, Accounts, period, set_aside, settle
from gateway.access.keys import Key
from gateway.access.meters import Meter, Metering, Meters
from gateway.access.refusals import budget_exceeded, limit_headers, unbounded, window_full
from gateway.access.windows import Taken, WindowFullError, Windows
from gateway.access.worst import bounded, worst_case
from gateway.ask import Ask
from gateway.errors import LedgerError
from gateway.ids import now
from gateway.settings.access import AccessSettings
from routers.features import answers_wanted, estimate_prompt_tokens

_log = logging.getLogger(__name__)
_ANSWER_TOKENS = 256
"""What an answer is taken to be, for token windows, where the request does not bound it."""
BOUNDED_HEADER = "x-pointsman-max-tokens"


class Spent(Protocol):
    """Knows what was spent before this process began."""

    def since(self, meter: Meter, at: float) -> int:
        """Nano-dollars since a time. Waits for the database; raises LedgerError."""
        ...


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
        admission: Who gave it.
        taken: What it was counted with.
        accounts: Where its money comes from.
    """

    __slots__ = (
        "_accounts",
        "_admission",
        "_bounded_to",
        "_closed",
        "_covers",
        "_taken",
        "_tokens",
    )

    def __init__(
        self, admission: Admission, taken: Sequence[Taken], accounts: Sequence[Account]
    ) -> None:
        self._admission = admission
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
        settings = self._admission.settings
        if card.prices is None:
            if settings.unknown_price == "refuse":
                raise unbounded(card.expert_id, "nobody knows the price")
            return Cover(request, self)
        worst = worst_case(card, card.prices, request, settings.default_max_tokens)
        if worst is None:
            raise unbounded(card.expert_id, "nothing bounds what an image or a file costs")
        room = min(account.room for account in self._accounts)
        tokens = worst.tokens
        if worst.cost(tokens) > max(room, 0):
            tokens = worst.affordable(room)
            least = min(settings.min_answer_tokens, worst.tokens)
            if tokens < least:
                raise budget_exceeded(self._accounts, worst.cost(least), now())
        if tokens < worst.tokens or worst.implied:
            request = bounded(request, tokens)
            self._bounded_to = tokens
        reserved = worst.cost(tokens)
        set_aside(self._accounts, reserved)
        return Cover(request, self, reserved)

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
        for taken in self._taken:
            if taken.meter.limit.unit == "tokens":
                self._admission.windows.correct(taken, self._tokens)
        for account in self._accounts:
            account.passes -= 1

    def headers(self) -> dict[str, str]:
        """`x-ratelimit-*`, and how long the answer may be if a budget bounds it."""
        meters = [taken.meter for taken in self._taken]
        headers = limit_headers(self._admission.windows.standing(meters))
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


class Counted:
    """What was counted so far: it outlives the settings that it was counted under."""

    def __init__(self) -> None:
        self.windows = Windows()
        self.accounts = Accounts()


class Admission:
    """Every limit of this process. Lives on the event loop: nothing changes between two awaits.

    Args:
        settings: How strict to be.
        spending: What was spent before this process began.
        flush: Waits until everything spent so far is in the ledger.
        counted: What another one, with other settings, has counted.
    """

    def __init__(
        self,
        settings: AccessSettings,
        spending: Spent,
        flush: Callable[[], Awaitable[None]],
        counted: Counted | None = None,
    ) -> None:
        counted = counted or Counted()
        self.settings = settings
        self.windows = counted.windows
        self.accounts = counted.accounts
        self._metering = Metering(settings.projects)
        self._spending = spending
        self._flush = flush
        self._free = FreePass(self, (), ())

    def admit_now(self, ask: Ask) -> Pass | None:
        """`admit` without waiting; None when it would have to, and nothing is counted.

        Raises:
            ApiError: A limit is reached.
        """
        meters = self._metering.of(ask.key, ask.wishes.session)
        if not meters:
            return self._free
        at = now()
        found = [self.accounts.find(meter, at) for meter in meters.budgets]
        accounts = [account for account in found if account is not None]
        return self._admitted(ask, meters, accounts) if len(accounts) == len(found) else None

    async def admit(self, ask: Ask) -> Pass:
        """Count the request with every limit that it comes under, or with none.

        Raises:
            ApiError: 429 with `retry-after` when a limit is reached, 400 when the request alone is
                more than one allows.
            LedgerError: What was spent so far can't be read.
        """
        passed = self.admit_now(ask)
        if passed is not None:
            return passed
        meters = self._metering.of(ask.key, ask.wishes.session)
        at = now()
        accounts = [await self._opened(meter, at) for meter in meters.budgets]
        return self._admitted(ask, meters, accounts)

    def meters(self, key: Key) -> Meters:
        """Every limit that a request of `key` comes under, whatever its session."""
        return self._metering.of_key(key)

    async def budgets(self, keys: Iterable[Key], *, whole: bool) -> list[Account]:
        """The accounts of these keys now; `whole` adds projects, keys above, and open sessions."""
        at = now()
        names = {key.name for key in keys}
        meters = {meter.name: meter for key in keys for meter in self.meters(key).budgets}
        accounts = [
            await self._opened(meter, at)
            for meter in meters.values()
            if whole or (meter.kind == "key" and meter.owner in names)
        ]
        sessions = [
            account
            for account in self.accounts.all()
            if account.meter.kind == "session" and account.meter.owner in names
        ]
        return accounts + sessions

    def headers(self, key: Key) -> dict[str, str]:
        """`x-ratelimit-*` of a key whatever its session, for answers without a pass."""
        windows = self.meters(key).windows
        return limit_headers(self.windows.standing(windows)) if windows else {}

    def _admitted(self, ask: Ask, meters: Meters, accounts: Sequence[Account]) -> Pass:
        wanted = [(meter, _cost(meter, ask.request)) for meter in meters.windows]
        try:
            taken = self.windows.take(wanted)
        except WindowFullError as error:
            headers = limit_headers(self.windows.standing(meters.windows))
            raise window_full(error, dict(wanted)[error.meter], headers) from error
        return Pass(self, taken, accounts)

    async def _opened(self, meter: Meter, at: float) -> Account:
        found = self.accounts.find(meter, at)
        if found is not None:
            return found
        since, _ = period(meter.limit.per, at)
        try:
            await self._flush()
            spent = await anyio.to_thread.run_sync(self._spending.since, meter, since)
        except LedgerError:
            if self.settings.when_ledger_is_down == "closed":
                raise
            _log.warning("the budget of %s begins at 0: the ledger can't be read", meter.subject)
            spent = 0
        return self.accounts.open(meter, at, spent)


def _cost(meter: Meter, request: ChatRequest) -> int:
    if meter.limit.unit == "requests":
        return 1
    answer = request.max_tokens or request.params.get("max_completion_tokens") or _ANSWER_TOKENS
    if request.task == "embed":
        answer = 0
    return round(estimate_prompt_tokens(request)) + int(answer) * answers_wanted(request)
