"""How long a silent expert is waited for while somebody else could be asked. No I/O."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from gateway.settings.limits import LimitSettings

_STRETCH = 3.0
"""An expert is waited for so many times as long as its slowest answers lately took."""
_FADES = 0.95
"""With each answer the slowest one before counts for so much of itself."""


WHOLE, HEAD = "the answer", "the head of the answer"
FIRST, NEXT = "the first token", "the next token"
_SETTINGS = {
    WHOLE: ("whole_s", "failover_whole_s"),
    HEAD: ("header_s", "first_token_s", "failover_s"),
    FIRST: ("first_token_s", "failover_s"),
    NEXT: ("idle_s", "failover_s"),
}
"""What is waited for, to the settings that may have ended the wait, the longest first."""


def late(what: str, waited_s: float, limits: LimitSettings) -> str:
    """What is said of something that did not come in time, with the setting that said so."""
    return f"{what} did not come within {waited_s:.3g} s{bound(what, waited_s, limits)}"


def bound(what: str, waited_s: float, limits: LimitSettings) -> str:
    """The setting that ended a wait; nothing where a deadline or another expert's turn did."""
    for name in _SETTINGS.get(what, ()):
        if math.isclose(getattr(limits, name), waited_s, abs_tol=1e-3):
            return f" (`limits.{name}`)"
    return ""


class Patience(NamedTuple):
    """How long one call may be silent, beside the limits that hold for every call.

    Attributes:
        share_s: Its part of the time until the deadline.
        begin_s: Longest wait for its beginning.
        between_s: Longest wait for a token after another; asked again each time.
    """

    share_s: float = math.inf
    begin_s: float = math.inf
    between_s: Callable[[], float] = lambda: math.inf


ENDLESS = Patience()


class Silence:
    """Knows how long each expert usually takes to begin. Lives on the event loop.

    The limits are for experts that are not known: one that is known to think for half a minute is
    not given up after a quarter, or every request to it would be paid for twice.

    Args:
        limits: `failover_s` for streams, `failover_whole_s` for answers that come whole.
        before: What was known under other limits.
    """

    def __init__(self, limits: LimitSettings, before: Silence | None = None) -> None:
        self._least = {True: limits.failover_s, False: limits.failover_whole_s}
        self._slowest: dict[tuple[str, bool], float] = before._slowest if before else {}

    def patience(
        self, expert_id: str, left_s: float, *, stream: bool, probe: bool
    ) -> tuple[float, float]:
        """The first two of `Patience` for a call beside which another one could be made.

        Args:
            expert_id: Who is asked.
            left_s: Seconds until the deadline.
            stream: Whether the answer is streamed.
            probe: The call shows whether an expert that failed is dead or slow: it is waited for
                as if there were nobody else, and one that is slow is given more from then on.
        """
        # A silent expert must leave time for another one, and the client its patience.
        begin_s = math.inf if probe else self.patience_s(expert_id, stream=stream)
        return left_s / 2, begin_s

    def patience_s(self, expert_id: str, *, stream: bool) -> float:
        """Longest wait for the first token, or for an answer that comes whole."""
        return max(self._least[stream], _STRETCH * self._slowest.get((expert_id, stream), 0.0))

    @property
    def between_s(self) -> float:
        """Longest wait for a token after another."""
        return self._least[True]

    def ended(self, expert_id: str, after_s: float, *, stream: bool) -> None:
        """It has begun to answer after so many seconds of silence, and answered to the end."""
        known = expert_id, stream
        slowest = self._slowest.get(known)
        if slowest is None or after_s > slowest:
            self._slowest[known] = after_s
        else:
            self._slowest[known] = max(after_s, slowest * _FADES)
