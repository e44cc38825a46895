"""Dollars of calendar periods: set aside before they are spent, in this process, without a lock."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from gateway.access.meters import Meter
from gateway.settings.access import Per

_LENGTH_S = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400, "week": 604_800}
# The first day of 1970 was a Thursday.
_MONDAY_S = 3 * 86_400


def period(per: Per, at: float) -> tuple[float, float | None]:
    """Beginning and end of the period that holds `at`, in UTC; `total` begins at 0 and never ends.

    Weeks begin on Monday.
    """
    if per == "total":
        return 0.0, None
    if per == "month":
        day = datetime.fromtimestamp(at, UTC)
        begins = datetime(day.year, day.month, 1, tzinfo=UTC)
        after = (day.year + 1, 1) if day.month == 12 else (day.year, day.month + 1)
        return begins.timestamp(), datetime(*after, 1, tzinfo=UTC).timestamp()
    offset, length = _MONDAY_S if per == "week" else 0, _LENGTH_S[per]
    start = (at + offset) // length * length - offset
    return start, start + length


@dataclass(slots=True)
class Account:
    """One budget in one period, in nano-dollars.

    Attributes:
        since, until: The period, in seconds since 1970.
        spent: What calls have cost.
        reserved: What calls under way may cost at most.
        passes: Requests under way that draw on it.
    """

    meter: Meter
    since: float
    until: float | None
    spent: int = 0
    reserved: int = 0
    passes: int = 0

    @property
    def room(self) -> int:
        """What may still be set aside; below 0 when a call cost more than its worst case."""
        return self.meter.amount - self.spent - self.reserved


class Accounts:
    """The accounts that this process knows. Lives on the event loop; never waits.

    Args:
        most: Accounts kept; the longest unused without requests under way are forgotten first.
    """

    def __init__(self, most: int = 50_000) -> None:
        self._most = most
        self._accounts: OrderedDict[tuple[str, float], Account] = OrderedDict()

    def find(self, meter: Meter, at: float) -> Account | None:
        """The account of the period that holds `at`, if it was opened, with the limit of now."""
        key = (meter.name, period(meter.limit.per, at)[0])
        account = self._accounts.get(key)
        if account is not None:
            account.meter = meter
            self._accounts.move_to_end(key)
        return account

    def open(self, meter: Meter, at: float, spent: int) -> Account:
        """Open it with what the ledger says was spent, unless somebody just has."""
        found = self.find(meter, at)
        if found is not None:
            return found
        since, until = period(meter.limit.per, at)
        account = self._accounts[meter.name, since] = Account(meter, since, until, spent)
        self._forget()
        return account

    def all(self) -> list[Account]:
        """Every account that is open."""
        return list(self._accounts.values())

    def _forget(self) -> None:
        for key in list(self._accounts)[: max(len(self._accounts) - self._most, 0)]:
            if not self._accounts[key].passes:
                del self._accounts[key]


def set_aside(accounts: Sequence[Account], cost: int) -> None:
    """Reserve `cost` in all of them; whoever calls has made sure that it fits."""
    for account in accounts:
        account.reserved += cost


def settle(accounts: Sequence[Account], reserved: int, cost: int) -> None:
    """Give back what was set aside, and count what was spent."""
    for account in accounts:
        account.reserved -= reserved
        account.spent += cost
