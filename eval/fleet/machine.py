"""What a token of a local expert costs, from the machine time that its calls took together."""

from __future__ import annotations

from collections.abc import Mapping
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
    """What one expert's tokens cost on a machine that it had to itself or shared.

    Attributes:
        hours: Its part of the hours that were paid for.
        usd: What these cost.
        calls: How many it answered.
        busy_share: What its calls took of all the machine's time, in [0, 1].
        at_once: Calls of its own under way on average while there was one.
        tokens_per_s: Tokens written per second of that time.
        busy: Prices if only the time in which it answered is paid for: what another token costs.
        whole: Prices at which the tokens pay for its hours, idle ones and those in which experts
            were moved included.
        reconciled: What its tokens cost at `whole`, over `usd`; 1 but for rounding.
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


def machine_prices(
    calls: Mapping[str, Calls], usd_per_hour: float, hours: float
) -> dict[str, MachinePrice]:
    r"""Share the price of a machine out over the tokens that its experts read and wrote.

    While k calls are under way, of whichever expert, each takes 1/k of the machine, so that the
    shares s of all calls add up to the busy time, whatever batch they ran in. Idle time is borne in
    proportion. What a token of either kind takes of an expert's shares follows from

    .. math:: \min_{a, b \ge 0} \sum_i (s_i - a\,\mathrm{input}_i - b\,\mathrm{output}_i)^2

    and both are scaled by one factor until they pay for its part of the hours. Cached prompt tokens
    take next to nothing and are free.

    Args:
        calls: All that the machine did in that time, by expert.
        usd_per_hour: What an hour of it costs, > 0.
        hours: How long it was paid for, > 0 and not less than it was busy.

    Raises:
        ComparisonError: No call of an expert used a token, or the calls took longer than the hours
            given.
    """
    for expert, each in calls.items():
        if not (each.input_N.sum() + each.output_N.sum()) > 0:
            raise ComparisonError(
                f"no call of {expert} with a known number of tokens was made in that time"
            )
    share_N, busy_s = machine_shares(
        np.concatenate([each.start_N for each in calls.values()]),
        np.concatenate([each.end_N for each in calls.values()]),
    )
    if busy_s > hours * _PER_HOUR * 1.001:
        raise ComparisonError(
            f"the calls took {busy_s / _PER_HOUR:.3g} hours of a machine that is said to have been "
            f"paid for {hours:.3g}"
        )
    ends = np.cumsum([len(each.start_N) for each in calls.values()])
    shares = dict(zip(calls, np.split(share_N, ends[:-1]), strict=True))
    # Where nothing took measurable time, they bear the hours alike.
    parts = {
        expert: float(shares[expert].sum()) / busy_s if busy_s else 1 / len(calls)
        for expert in calls
    }
    return {
        expert: _priced(each, shares[expert], usd_per_hour, hours, parts[expert])
        for expert, each in calls.items()
    }


def _priced(
    calls: Calls, share_N: Floats, usd_per_hour: float, hours: float, part: float
) -> MachinePrice:
    """One expert's prices, of the `part` of the hours that it bears."""
    tokens_N2 = np.stack([calls.input_N, calls.output_N], axis=1)
    seconds_2 = _per_token(share_N, tokens_N2)
    taken_s = float((tokens_N2 @ seconds_2).sum())
    usd = usd_per_hour * hours * part
    busy_s = float(share_N.sum())
    busy_usd = usd_per_hour * busy_s / _PER_HOUR
    _, own_s = machine_shares(calls.start_N, calls.end_N)
    measured = f"{len(share_N)} calls in {hours * part:.4g} machine hours at ${usd_per_hour:g}"
    whole = _prices(seconds_2 * usd / taken_s, f"measured: {measured}, idle time included")
    paid = float((tokens_N2 @ [whole.input, whole.output]).sum()) / _PER_MILLION
    return MachinePrice(
        hours=hours * part,
        usd=usd,
        calls=len(share_N),
        busy_share=busy_s / (hours * _PER_HOUR),
        at_once=float((calls.end_N - calls.start_N).sum()) / own_s if own_s else 0.0,
        tokens_per_s=float(calls.output_N.sum()) / own_s if own_s else 0.0,
        busy=_prices(seconds_2 * busy_usd / taken_s, f"measured: {measured}, busy time only"),
        whole=whole,
        reconciled=paid / usd if usd else 1.0,
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
