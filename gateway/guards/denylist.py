"""The `regex` guard: patterns that may not occur."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.guards.finder import Detector, Finder, Found
from gateway.settings.guards import RegexGuardSettings


def pattern_finder(patterns: Mapping[str, str], *, streams: bool) -> Finder:
    """Finds every pattern under its name.

    Raises:
        PatternError: One can't be used, named.
    """
    return Finder([Detector(name, each) for name, each in patterns.items()], streams=streams)


class RegexGuard:
    """Finds what the patterns say; what it redacts becomes `[name of the pattern]`."""

    def __init__(self, settings: RegexGuardSettings) -> None:
        self.settings = settings
        self.finder = pattern_finder(settings.patterns, streams="output" in settings.on)

    def begin(self) -> RegexGuard:
        """It keeps nothing of a request."""
        return self

    def placeholder(self, found: Found) -> str:
        return f"[{found.name}]"
