"""Limits and budgets as the client sees them: headers of every answer, bodies of refusals."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from gateway.access.accounts import Account
from gateway.access.meters import Meter
from gateway.access.windows import Standing, WindowFullError
from gateway.errors import ApiError


def limit_headers(standings: Iterable[Standing]) -> dict[str, str]:
    """`x-ratelimit-*` of the window with the least left, for requests and tokens apart."""
    tightest: dict[str, Standing] = {}
    for standing in standings:
        before = tightest.get(standing.meter.unit)
        if before is None or standing.left < before.left:
            tightest[standing.meter.unit] = standing
    return {
        f"x-ratelimit-{what}-{name}": value
        for name, standing in tightest.items()
        for what, value in (
            ("limit", str(standing.meter.amount)),
            ("remaining", str(standing.left)),
            ("reset", f"{math.ceil(standing.reset_s)}s"),
        )
    }


def window_full(error: WindowFullError, cost: int, headers: dict[str, str]) -> ApiError:
    """429 with the time to wait; 400 for a request that no wait would let through."""
    limit, unit = error.meter.limit, error.meter.unit
    what = f"{error.meter.subject} may have {limit.amount} {unit} per {limit.per}"
    if error.wait_s is None:
        return ApiError(
            400,
            f"{what}, this request alone may need {cost}; shorten it or lower max_tokens",
            code="request_exceeds_limit",
            headers=headers,
        )
    wait = str(max(1, math.ceil(error.wait_s)))
    return ApiError(
        429,
        f"{what}; try again in {wait} s",
        type="rate_limit_error",
        code="rate_limit_exceeded",
        headers={**headers, "retry-after": wait},
    )


def budget_exceeded(accounts: Sequence[Account], least: int, at: float) -> ApiError:
    """429 for a call that may cost `least` nano-dollars even if its answer is cut short."""
    account = min(accounts, key=lambda each: each.room)
    headers = {}
    if account.room + account.reserved >= least:
        # Others have set it aside, and will give back what they don't need.
        headers["retry-after"] = "1"
    elif account.until is not None:
        headers["retry-after"] = str(max(1, math.ceil(account.until - at)))
    return ApiError(
        429,
        f"the budget of {_budget(account.meter)} has ${max(account.room, 0) / 1e9:.9g} left, "
        f"this call may cost ${least / 1e9:.9g}",
        type="budget_exceeded",
        code="budget_exceeded",
        headers=headers,
    )


def unbounded(expert_id: str, why: str) -> ApiError:
    """403 for a call that a budget can't be kept with."""
    return ApiError(
        403,
        f"{why} of the expert {expert_id!r}, so the budget of this key can't be kept",
        type="permission_error",
        code="cost_not_bounded",
        param="model",
    )


def shared_down() -> ApiError:
    """503 while limits can't be counted where all workers count."""
    return ApiError(
        503,
        "limits can't be counted just now; try again shortly",
        type="server_error",
        code="limits_unavailable",
        headers={"retry-after": "1"},
    )


def apart() -> ApiError:
    """503 for a key with limits where several workers each count by themselves."""
    return ApiError(
        503,
        "this key has limits, and several workers can't keep them together: set access.shared",
        type="server_error",
        code="limits_not_shared",
    )


def _budget(meter: Meter) -> str:
    amount = f"${meter.amount / 1e9:.9g}"
    per = "in total" if meter.limit.per == "total" else f"per {meter.limit.per}"
    return f"{meter.subject} ({amount} {per})"
