"""Lets a request in: counted with every limit, its money set aside before it is spent."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

import anyio

from experts.messages import ChatRequest
from gateway.access.accounts import Account, Accounts, period
from gateway.access.keys import Key
from gateway.access.meters import Meter, Metering, Meters
from gateway.access.passes import FreePass, Pass, SharedPass
from gateway.access.refusals import apart, limit_headers, shared_down, window_full
from gateway.access.shared import SharedCounters, SharedDownError, SharedTaken
from gateway.access.windows import WindowFullError, Windows
from gateway.ask import Ask
from gateway.errors import LedgerError
from gateway.ids import now
from gateway.settings.access import AccessSettings
from routers.features import answers_wanted, estimate_prompt_tokens

_log = logging.getLogger(__name__)
_ANSWER_TOKENS = 256
"""What an answer is taken to be, for token windows, where the request does not bound it."""


class Spent(Protocol):
    """Knows what was spent before this process began."""

    def since(self, meter: Meter, at: float) -> int:
        """Nano-dollars since a time. Waits for the database; raises LedgerError."""
        ...


class Counted:
    """What was counted so far: it outlives the settings that it was counted under.

    Args:
        shared: Where it is counted instead, if workers and replicas share it.
    """

    def __init__(self, shared: SharedCounters | None = None) -> None:
        self.windows = Windows()
        self.accounts = Accounts()
        self.shared = shared


class Admission:
    """Every limit of this process. Lives on the event loop: nothing changes between two awaits.

    Args:
        settings: How strict to be.
        spending: What was spent before this process began.
        flush: Waits until everything spent so far is in the ledger.
        counted: What another one, with other settings, has counted.
        alone: Whether no other worker lets requests in; if one does, limits must be shared.
    """

    def __init__(
        self,
        settings: AccessSettings,
        spending: Spent,
        flush: Callable[[], Awaitable[None]],
        counted: Counted | None = None,
        *,
        alone: bool = True,
    ) -> None:
        counted = counted or Counted()
        self.settings = settings
        self.windows = counted.windows
        self.accounts = counted.accounts
        self._shared = counted.shared
        self._alone = alone
        self._metering = Metering(settings.projects)
        self._spending = spending
        self._flush = flush
        self._free = FreePass(settings, self.windows, (), ())

    def admit_now(self, ask: Ask) -> Pass | None:
        """`admit` without waiting; None when it would have to, and nothing is counted.

        Raises:
            ApiError: A limit is reached.
        """
        meters = self._metering.of(ask.key, ask.wishes.session)
        if not meters:
            return self._free
        if not self._alone:
            raise apart()
        if self._shared is not None:
            return None
        at = now()
        found = [self.accounts.find(meter, at) for meter in meters.budgets]
        accounts = [account for account in found if account is not None]
        return self._admitted(ask, meters, accounts) if len(accounts) == len(found) else None

    def free(self, key: Key) -> FreePass | None:
        """The pass of every request of `key`, if none of them comes under any limit."""
        return self._free if self._metering.has_none(key) else None

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
        if self._shared is not None:
            try:
                return await self._admitted_everywhere(self._shared, ask, meters)
            except SharedDownError as error:
                if self.settings.when_shared_is_down == "closed":
                    raise shared_down() from error
                _log.warning("limits are counted in this process alone: %s", error)
                here = self._admitted(ask, meters, await self._opened_here(meters))
                return self._shared_pass(self._shared, (), meters, here)
        at = now()
        accounts = [await self._opened(meter, at) for meter in meters.budgets]
        return self._admitted(ask, meters, accounts)

    def meters(self, key: Key) -> Meters:
        """Every limit that a request of `key` comes under, whatever its session."""
        return self._metering.of_key(key)

    async def budgets(self, keys: Iterable[Key], *, whole: bool) -> list[Account]:
        """The accounts of these keys now; `whole` adds projects, keys above, and open sessions."""
        at = now()
        keys = list(keys)
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
        if self._shared is None:
            return accounts + sessions
        try:
            return await self._shared.read(accounts + sessions)
        except SharedDownError as error:
            raise shared_down() from error

    def headers(self, key: Key) -> dict[str, str]:
        """`x-ratelimit-*` of a key whatever its session, for answers without a pass."""
        windows = self._metering.of_key(key).windows
        if not windows:
            return {}
        counted = self.windows if self._shared is None else self._shared
        return limit_headers(counted.standing(windows))

    def _admitted(self, ask: Ask, meters: Meters, accounts: Sequence[Account]) -> Pass:
        wanted = _wanted(ask, meters)
        try:
            taken = self.windows.take(wanted)
        except WindowFullError as error:
            headers = limit_headers(self.windows.standing(meters.windows))
            raise window_full(error, dict(wanted)[error.meter], headers) from error
        return Pass(self.settings, self.windows, taken, accounts)

    async def _admitted_everywhere(self, shared: SharedCounters, ask: Ask, meters: Meters) -> Pass:
        wanted = _wanted(ask, meters)
        try:
            taken = await shared.take(wanted) if wanted else []
        except WindowFullError as error:
            headers = limit_headers(shared.standing(meters.windows))
            raise window_full(error, dict(wanted)[error.meter], headers) from error
        return self._shared_pass(shared, taken, meters)

    def _shared_pass(
        self,
        shared: SharedCounters,
        taken: Sequence[SharedTaken],
        meters: Meters,
        here: Pass | None = None,
    ) -> Pass:
        at = now()
        accounts = [Account(meter, *period(meter.limit.per, at)) for meter in meters.budgets]
        open_here = partial(self._opened_here, meters)
        return SharedPass(self.settings, shared, taken, accounts, self._seed, open_here, here)

    async def _opened_here(self, meters: Meters) -> list[Account]:
        """The accounts of this process, for a while in which Valkey is away."""
        at = now()
        return [await self._caught_up(meter, at) for meter in meters.budgets]

    async def _caught_up(self, meter: Meter, at: float) -> Account:
        found = self.accounts.find(meter, at)
        if found is None or found.passes:
            return await self._opened(meter, at)
        # Since Valkey was away before, it was told of what was spent, and this account was not.
        found.spent = max(found.spent, await self._spent(meter, found.since))
        return found

    async def _seed(self, account: Account) -> None:
        if self._shared is not None:
            spent = await self._spent(account.meter, account.since)
            await self._shared.seed(replace(account, spent=spent))

    async def _opened(self, meter: Meter, at: float) -> Account:
        found = self.accounts.find(meter, at)
        if found is not None:
            return found
        since, _ = period(meter.limit.per, at)
        return self.accounts.open(meter, at, await self._spent(meter, since))

    async def _spent(self, meter: Meter, since: float) -> int:
        try:
            await self._flush()
            return await anyio.to_thread.run_sync(self._spending.since, meter, since)
        except LedgerError:
            if self.settings.when_ledger_is_down == "closed":
                raise
            _log.warning("the budget of %s begins at 0: the ledger can't be read", meter.subject)
            return 0


def _wanted(ask: Ask, meters: Meters) -> list[tuple[Meter, int]]:
    tokens = 0
    if any(meter.unit == "tokens" for meter in meters.windows):
        tokens = _tokens(ask.request)
    return [(meter, tokens if meter.unit == "tokens" else 1) for meter in meters.windows]


def _tokens(request: ChatRequest) -> int:
    """About how many it will take; corrected when it has ended."""
    answer = request.max_tokens or request.params.get("max_completion_tokens") or _ANSWER_TOKENS
    if request.task == "embed":
        answer = 0
    return round(estimate_prompt_tokens(request)) + int(answer) * answers_wanted(request)
