"""Windows and accounts that all workers and replicas share, in Valkey."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.access import scripts
from gateway.access.accounts import Account
from gateway.access.meters import Meter
from gateway.access.windows import PERIOD_S, Standing, WindowFullError
from gateway.errors import ConfigError

_log = logging.getLogger(__name__)
_TIMEOUT_S = 1.0
_CONNECTIONS = 16
_RETRY_S = 0.5
_KEEP_S = 30 * 86_400
_SETTLED_MS = 60_000
"""For so long Valkey remembers what is settled: by then whatever was sent twice has come."""
_MOST_LATE = 100_000
_MOST_STANDINGS = 10_000
Late = tuple[str, list[str], list[Any]]
"""The name of a script, its keys and its arguments, to be run when there is time."""


class SharedDownError(Exception):
    """Valkey does not answer."""


class NotSeededError(Exception):
    """Nobody has told Valkey yet what was spent from an account."""

    def __init__(self, account: Account) -> None:
        super().__init__(account.meter.name)
        self.account = account


class RoomError(Exception):
    """Not enough is left; nothing was set aside."""

    def __init__(self, account: Account) -> None:
        super().__init__(account.meter.name)
        self.account = account


@dataclass(frozen=True, slots=True)
class SharedTaken:
    """What a request was counted with, to be corrected when its true size is known."""

    meter: Meter
    bucket: int
    cost: int


class SharedCounters:
    """Counts in Valkey. Every change is one script, so workers can't come between each other.

    A reservation ends by itself after `hold_s`, in case its worker died. Settlements are sent
    behind the answer, and before the next question to Valkey.

    Args:
        url: `valkey://host:port/0`.
        hold_s: Longer than any request may take.

    Raises:
        ConfigError: The client is not installed, or the URL is of no kind that it knows.
    """

    def __init__(self, url: str, hold_s: float) -> None:
        try:
            from valkey import asyncio as valkey
            from valkey.exceptions import ValkeyError
        except ImportError as error:
            raise ConfigError(
                "access.shared needs the extra: pip install pointsman[valkey]"
            ) from error
        try:
            pool = valkey.BlockingConnectionPool.from_url(
                url,
                max_connections=_CONNECTIONS,
                timeout=_TIMEOUT_S,
                socket_timeout=_TIMEOUT_S,
                socket_connect_timeout=_TIMEOUT_S,
            )
        except ValueError as error:
            raise ConfigError(f"access.shared: {error}") from error
        self._client = valkey.Valkey.from_pool(pool)
        self._failures = (ValkeyError, OSError, TimeoutError)
        names = ("TAKE", "CORRECT", "SEED", "RESERVE", "SETTLE")
        self._scripts = {n: self._client.register_script(getattr(scripts, n)) for n in names}
        self._hold_ms = math.ceil(hold_s * 1000)
        self._late: deque[Late] = deque(maxlen=_MOST_LATE)
        self._sending = asyncio.Lock()
        self._sender: asyncio.Task[None] | None = None
        self._standings: OrderedDict[str, Standing] = OrderedDict()

    def hold_at_least(self, hold_s: float) -> None:
        """Let no reservation end sooner than this from now on: requests may take longer now."""
        self._hold_ms = max(self._hold_ms, math.ceil(hold_s * 1000))

    async def take(self, wanted: Sequence[tuple[Meter, int]]) -> list[SharedTaken]:
        """Like `Windows.take`.

        Raises:
            WindowFullError: One is full; nothing was counted.
            SharedDownError: Valkey does not answer.
        """
        keys = [_window_key(meter) for meter, _ in wanted]
        numbers: list[int] = []
        for meter, cost in wanted:
            numbers += [meter.amount, round(PERIOD_S[meter.limit.per] * 1000), cost]
        done, *rest = await self._run("TAKE", keys, numbers)
        full = None
        if not done:
            index, wait_ms, *rest = rest
            full = WindowFullError(wanted[index - 1][0], None if wait_ms < 0 else wait_ms / 1000)
        taken = []
        for index, (meter, cost) in enumerate(wanted):
            bucket, left, reset_ms = rest[3 * index : 3 * index + 3]
            self._note(Standing(meter, left, reset_ms / 1000))
            taken.append(SharedTaken(meter, bucket, cost))
        if full is not None:
            raise full
        return taken

    def correct(self, taken: SharedTaken, cost: int) -> None:
        """Count `cost` instead of what was estimated, soon."""
        if cost != taken.cost:
            self._soon("CORRECT", [_window_key(taken.meter)], [taken.bucket, cost - taken.cost])

    def standing(self, meters: Iterable[Meter]) -> list[Standing]:
        """How these meters stood when this process last asked."""
        found = [self._standings.get(meter.name) for meter in meters]
        return [standing for standing in found if standing is not None]

    async def seed(self, account: Account) -> None:
        """Tell Valkey what was spent from `account`, unless it knows."""
        await self._run("SEED", _account_keys(account), [account.spent, _keep_ms(account)])

    async def reserve(self, accounts: Sequence[Account], hold: str, want: int, least: int) -> int:
        """Set `want` aside in all accounts, or all that is left if that is at least `least`.

        Returns:
            The nano-dollars set aside.

        Raises:
            RoomError, NotSeededError, SharedDownError: Nothing was set aside.
        """
        keys = [key for account in accounts for key in _account_keys(account)]
        args: list[Any] = [hold, self._hold_ms, want, least]
        for account in accounts:
            args += [account.meter.amount, _keep_ms(account)]
        try:
            done, number = await self._run("RESERVE", keys, args)
        except BaseException:
            # The client left, or Valkey was late: it may hold the money all the same.
            self.settle(accounts, hold, 0)
            raise
        if done < 0:
            raise NotSeededError(accounts[number - 1])
        if not done:
            raise RoomError((await self.read([accounts[number - 1]]))[0])
        return int(number)

    def settle(self, accounts: Sequence[Account], hold: str, cost: int) -> None:
        """Give a hold back and count what the call cost, soon."""
        keys = [key for account in accounts for key in _account_keys(account)]
        self._soon("SETTLE", keys, [hold, cost, _SETTLED_MS])

    async def read(self, accounts: Sequence[Account]) -> list[Account]:
        """The same accounts as Valkey has them; those that it has not as they are."""
        await self._sent()
        try:
            async with self._client.pipeline(transaction=False) as pipe:
                for account in accounts:
                    pipe.hmget(_account_keys(account)[0], ["spent", "reserved"])
                rows = await pipe.execute()
        except self._failures as error:
            raise SharedDownError(str(error)) from error
        return [
            Account(a.meter, a.since, a.until, int(spent), int(reserved)) if spent else a
            for a, (spent, reserved) in zip(accounts, rows, strict=True)
        ]

    async def aclose(self) -> None:
        """Send what is left, if Valkey answers, and close the connections."""
        if self._sender is not None:
            # What it is sending just now would be lost with it.
            async with self._sending:
                self._sender.cancel()
        try:
            await self._send()
        except SharedDownError as error:
            _log.warning("%d settlements were not sent: %s", len(self._late), error)
        await self._client.aclose()

    async def _run(self, script: str, keys: list[str], args: list[Any]) -> Any:
        await self._sent()
        try:
            return await self._scripts[script](keys=keys, args=args)
        except self._failures as error:
            raise SharedDownError(str(error)) from error

    def _soon(self, script: str, keys: list[str], args: list[Any]) -> None:
        self._late.append((script, keys, args))
        if self._sender is None or self._sender.done():
            self._sender = asyncio.get_running_loop().create_task(self._send_all())

    async def _send_all(self) -> None:
        while self._late:
            try:
                await self._send()
            except SharedDownError as error:
                _log.warning("%d settlements wait for Valkey: %s", len(self._late), error)
                await asyncio.sleep(_RETRY_S)

    async def _sent(self) -> None:
        """Wait for the settlements so far, those on their way included."""
        if self._late or self._sending.locked():
            # A client that leaves must not take other people's settlements along.
            await asyncio.shield(asyncio.ensure_future(self._send()))

    async def _send(self) -> None:
        async with self._sending:
            batch = list(self._late)
            self._late.clear()
            if not batch:
                return
            try:
                async with self._client.pipeline(transaction=False) as pipe:
                    for script, keys, args in batch:
                        await self._scripts[script](keys=keys, args=args, client=pipe)
                    await pipe.execute()
            except self._failures as error:
                # Some of it may have come. Settlements count once, corrections each time, so those
                # that give something back are not sent again.
                self._late.extendleft(one for one in reversed(batch) if not _gives_back(one))
                raise SharedDownError(str(error)) from error

    def _note(self, standing: Standing) -> None:
        self._standings[standing.meter.name] = standing
        self._standings.move_to_end(standing.meter.name)
        if len(self._standings) > _MOST_STANDINGS:
            self._standings.popitem(last=False)


def _gives_back(late: Late) -> bool:
    script, _, args = late
    return script == "CORRECT" and args[1] < 0


# In a cluster, all keys of a script must live in one place: what is in braces decides which.
def _window_key(meter: Meter) -> str:
    return f"{{pointsman}}:window:{meter.name}"


def _account_keys(account: Account) -> list[str]:
    # The client's word for a session comes last: whatever it is, it makes no key of another kind.
    name = f"{account.since:.0f}:{account.meter.name}"
    return [f"{{pointsman}}:{kind}:{name}" for kind in ("usd", "ends", "holds")]


def _keep_ms(account: Account) -> int:
    if account.until is None:
        return _KEEP_S * 1000
    # A request may settle after its period has ended.
    return round((account.until - account.since) * 1000) + 3_600_000
