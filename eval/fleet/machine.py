"""What a token of a local expert costs, from the machine time that its calls took together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eval.errors import ComparisonError
from experts.cards import Prices
from routers.records import Floats

_PER_MILLION = 1e6
_PER_HOUR = 3600.0


@dataclass(frozen=True, slots=True, eq=False)
class Calls:
    """Calls of one expert, in any order.

    Attributes:
        start_N: When each began, in seconds.
        end_N: When it ended, not before it began.
        input_N: Prompt tokens read afresh.
        output_N: Tokens written, reasoning included.
    """

    start_N: Floats
    end_N: Floats
    input_N: Floats
    output_N: Floats


@dataclass(frozen=True, slots=True)
class MachinePrice:
    """What a machine that served one expert cost per token.

    Attributes:
        hours: How long the machine was paid for.
        usd: What that cost.
        calls: How many it answered.
        busy_share: Share of the time in which it answered at least one, in [0, 1].
        at_once: Calls under way on average while it was busy.
        tokens_per_s: Tokens written per second while it was busy.
        busy: Prices if only the time in which it answered is paid for: what another token costs.
        whole: Prices at which the tokens pay for all hours, idle ones included.
        reconciled: What all tokens cost at `whole`, over `usd`; 1 but for rounding.
    """

    hours: float
    usd: float
    calls: int
    busy_share: float
    at_once: float
    tokens_per_s: float
    busy: Prices
    whole: Prices
    reconciled: float


def machine_price(calls: Calls, usd_per_hour: float, hours: float) -> MachinePrice:
    r"""Share the price of a machine out over the tokens that it read and wrote.

    While k calls are under way each takes 1/k of the machine, so that the shares s of all calls add
    up to the busy time, whatever batch they ran in. What a token of either kind takes follows from

    .. math:: \min_{a, b \ge 0} \sum_i (s_i - a\,\mathrm{input}_i - b\,\mathrm{output}_i)^2

    and both are scaled by one factor until they pay for the hours. Cached prompt tokens take next
    to nothing and are free.

    Args:
        calls: All that the machine did in that time.
        usd_per_hour: What an hour of it costs, > 0.
        hours: How long it was paid for, > 0 and not less than it was busy.

    Raises:
        ComparisonError: No call used a token, or the calls took longer than the hours given.
    """
    if not calls.start_N.size or not (calls.input_N.sum() + calls.output_N.sum()) > 0:
        raise ComparisonError("no call with a known number of tokens ended in that time")
    share_N, busy_s = machine_shares(calls.start_N, calls.end_N)
    if busy_s > hours * _PER_HOUR * 1.001:
        raise ComparisonError(
            f"the calls took {busy_s / _PER_HOUR:.3g} hours of a machine that is said to have been "
            f"paid for {hours:.3g}"
        )
    tokens_N2 = np.stack([calls.input_N, calls.output_N], axis=1)
    seconds_2 = _per_token(share_N, tokens_N2)
    taken_s = float((tokens_N2 @ seconds_2).sum())
    usd = usd_per_hour * hours
    busy_usd = usd_per_hour * busy_s / _PER_HOUR
    measured = f"{len(share_N)} calls in {hours:.4g} machine hours at ${usd_per_hour:g}"
    whole = _prices(seconds_2 * usd / taken_s, f"measured: {measured}, idle time included")
    paid = float((tokens_N2 @ [whole.input, whole.output]).sum()) / _PER_MILLION
    return MachinePrice(
        hours=hours,
        usd=usd,
        calls=len(share_N),
        busy_share=busy_s / (hours * _PER_HOUR),
        at_once=float((calls.end_N - calls.start_N).sum()) / busy_s if busy_s else 0.0,
        tokens_per_s=float(calls.output_N.sum()) / busy_s if busy_s else 0.0,
        busy=_prices(seconds_2 * busy_usd / taken_s, f"measured: {measured}, busy time only"),
        whole=whole,
        reconciled=paid / usd,
    )


def machine_shares(start_N: Floats, end_N: Floats) -> tuple[Floats, float]:
    """Each call's share of the machine in seconds, and the seconds in which any was under way.

    Args:
        start_N: When each call began.
        end_N: When it ended, not before it began.

    Returns:
        Shares, shape (N,), which add up to the second value.
    """
    times_T = np.unique(np.concatenate([start_N, end_N]))
    began_T = np.searchsorted(np.sort(start_N), times_T, side="right")
    ended_T = np.searchsorted(np.sort(end_N), times_T, side="right")
    under_way_T = (began_T - ended_T)[:-1]
    passed_T = np.diff(times_T)
    rate_T = np.divide(1.0, under_way_T, out=np.zeros(len(passed_T)), where=under_way_T > 0)
    spent_T = np.concatenate([[0.0], np.cumsum(passed_T * rate_T)])
    share_N = spent_T[np.searchsorted(times_T, end_N)] - spent_T[np.searchsorted(times_T, start_N)]
    return share_N, float(passed_T[under_way_T > 0].sum())


def _per_token(share_N: Floats, tokens_N2: Floats) -> Floats:
    """Seconds of the machine per prompt token and per token written."""
    from scipy.optimize import nnls

    scale_2 = np.maximum(tokens_N2.max(axis=0), 1.0)
    found_2, _ = nnls(tokens_N2 / scale_2, share_N)
    seconds_2: Floats = found_2 / scale_2
    if not (tokens_N2 @ seconds_2).sum() > 0:
        # Calls that took no measurable time: every token is alike.
        return np.ones(2)
    return seconds_2


def _prices(usd_per_token_2: Floats, source: str) -> Prices:
    read, written = (float(f"{usd * _PER_MILLION:.9g}") for usd in usd_per_token_2)
    return Prices(read, written, cache_read=0.0, source=source)
