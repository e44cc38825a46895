"""Numbers as the report and the terminal show them; what is unknown is a dash."""

from __future__ import annotations

import math

from eval.metrics.intervals import Interval

PER = 1000
"""Costs are shown in dollars per this many queries."""

DASH = "–"


def percent(value: float | None, digits: int = 1) -> str:
    """A share in [0, 1] as percent."""
    return DASH if _unknown(value) else _minus(f"{100 * (value or 0.0):.{digits}f}%")


def points(value: float | None) -> str:
    """A difference of qualities in points of a hundred, with its sign."""
    return signed(None if value is None else 100 * value, 1)


def dollars(value: float | None) -> str:
    """Dollars per query as dollars per 1,000 queries."""
    return DASH if _unknown(value) else usd(PER * (value or 0.0))


def number(value: float | None, digits: int = 3) -> str:
    """A plain number."""
    return DASH if _unknown(value) else _minus(f"{value or 0.0:.{digits}f}")


def signed(value: float | None, digits: int = 3) -> str:
    """A plain number with its sign; nought has none."""
    if value is None or math.isnan(value):
        return DASH
    rounded = round(value, digits) or 0.0
    return _minus(f"{rounded:+.{digits}f}" if rounded else f"{0:.{digits}f}")


def percent_range(interval: Interval | None, digits: int = 1) -> str:
    """An interval of shares in percent."""
    if interval is None:
        return ""
    return f"{percent(interval.low, digits).rstrip('%')} to {percent(interval.high, digits)}"


def points_range(interval: Interval | None) -> str:
    """An interval of differences in points."""
    return "" if interval is None else f"{points(interval.low)} to {points(interval.high)}"


def dollars_range(interval: Interval | None) -> str:
    """An interval of costs per 1,000 queries."""
    return "" if interval is None else f"{dollars(interval.low)} to {dollars(interval.high)}"


def number_range(interval: Interval | None, digits: int = 3) -> str:
    """An interval of plain numbers."""
    if interval is None:
        return ""
    return f"{number(interval.low, digits)} to {number(interval.high, digits)}"


def signed_range(interval: Interval | None, digits: int = 3) -> str:
    """An interval of numbers with their signs."""
    if interval is None:
        return ""
    return f"{signed(interval.low, digits)} to {signed(interval.high, digits)}"


def usd(value: float) -> str:
    """A dollar amount: cents from a dollar on, two significant digits below."""
    if value == 0:
        return "$0"
    size = abs(value)
    digits = 1 - math.floor(math.log10(size)) if size < 1 else (2 if size < 100 else 0)
    return f"${value:,.{digits}f}"


def tick_usd(value: float) -> str:
    """A dollar amount as an axis shows it, without trailing zeros."""
    text = usd(value)
    return text.rstrip("0").rstrip(".") if "." in text else text


def _unknown(value: float | None) -> bool:
    return value is None or math.isnan(value)


def _minus(text: str) -> str:
    return text.replace("-", "\u2212")
