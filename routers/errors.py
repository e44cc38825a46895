"""Why no decision, no router, or no fit.

RoutingError
├── NoEligibleExpertError   every expert is ruled out; `.reasons` says why, expert by expert
├── TableError              outcomes that can't be learned from
├── ArtifactError           a router on disk that is damaged or of another make
└── MissingExtraError       something optional that is not installed
"""

from __future__ import annotations

from collections.abc import Mapping


class RoutingError(Exception):
    """Base of all errors of this package."""


class NoEligibleExpertError(RoutingError):
    """No expert can serve this request under its constraints."""

    def __init__(self, reasons: Mapping[str, str]) -> None:
        listed = "; ".join(f"{expert}: {reason}" for expert, reason in sorted(reasons.items()))
        super().__init__(f"no expert can serve this request ({listed or 'the pool is empty'})")
        self.reasons = dict(reasons)


class TableError(RoutingError, ValueError):
    """Outcomes that can't be learned from: too few, no task labels, nothing observed."""


class ArtifactError(RoutingError):
    """A router artifact is missing a file, does not match its hashes, or is of an unknown kind."""


class MissingExtraError(RoutingError):
    """Something optional is asked for that is not installed; the message says how to get it."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs the extra: pip install 'pointsman[{extra}]'")
