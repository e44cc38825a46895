"""Dollars for people."""

from __future__ import annotations


def dollars(usd: float | None) -> str:
    """With as many digits as say something; "unknown" for None."""
    if usd is None:
        return "unknown"
    if usd == 0:
        return "$0"
    if usd < 0:
        return f"-{dollars(-usd)}"
    if usd >= 0.01:
        return f"${usd:,.2f}"
    return f"${usd:.6f}" if usd >= 1e-6 else f"${usd:.9f}"
