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


class TooLong(str):
    """A reason that a shorter prompt would do away with."""

    __slots__ = ()


class Unstated(str):
    """A reason that may be none: nobody says yes or no."""

    __slots__ = ()


class NoEligibleExpertError(RoutingError):
    """No expert can serve this request under its constraints.

    Attributes:
        reasons: Why each can't.
        code: What clients that shorten their conversations and ask again wait for, if a shorter
            prompt could be served; else None.
    """

    def __init__(self, reasons: Mapping[str, str]) -> None:
        listed = "; ".join(f"{expert}: {reason}" for expert, reason in sorted(reasons.items()))
        too_long = any(isinstance(reason, TooLong) for reason in reasons.values())
        # Some go by Anthropic's words, others by OpenAI's code.
        why = "the prompt is too long: " if too_long else ""
        said = listed or "the pool is empty"
        super().__init__(f"{why}no expert can serve this request ({said})")
        self.reasons = dict(reasons)
        self.code = "context_length_exceeded" if too_long else None


class TableError(RoutingError, ValueError):
    """Outcomes that can't be learned from: too few, no task labels, nothing observed."""


class ArtifactError(RoutingError):
    """A router artifact is missing a file, does not match its hashes, or is of an unknown kind."""


class MissingExtraError(RoutingError):
    """Something optional is asked for that is not installed; the message says how to get it."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs the extra: pip install 'pointsman[{extra}]'")
