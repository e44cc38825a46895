"""Why a value can't be read off a log."""

from __future__ import annotations


class OffPolicyError(ValueError):
    """A log and a candidate that don't belong together, or a log that can't tell."""
