"""What a call and all calls below it may still come to: dollars, calls, seconds, depth."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import anyio

from experts.base import Below
from experts.cards import NANO_PER_USD, NO_CAPS, Caps, ExpertCard
from experts.errors import ExpertCapError
from experts.messages import ChatRequest, Usage
from gateway.access.worst import bounded, worst_case
from gateway.settings.access import MOST_USD


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for every purse of a process.

    Attributes:
        calls: Most calls of models that one request may come to.
        depth: How deep compositions may nest.
        default_tokens: Longest answer to reckon with where neither request nor expert bounds it.
        least_tokens: A call whose answer would have to be shorter than this is not made.
    """

    calls: int
    depth: int
    default_tokens: int
    least_tokens: int


@dataclass(slots=True)
class Held:
    """One call that may be made.

    Attributes:
        request: What to send: as it was asked, or with its answer bounded to what is left.
        cost_nanousd: To be filled in when it has ended; None is unknown.
        usage: The same for its tokens.
    """

    request: ChatRequest
    cost_nanousd: int | None = None
    usage: Usage | None = None


class Purse:
    """The limits of one call: its own caps, and those of every call that it is made for.

    Every call of a model is held against all of them before it is made, at the most it can cost, so
    that no cap is ever passed, however deep compositions nest and however much they do at once.

    Args:
        rules: What holds for all.
        caps: Of this call.
        above: Of the composition that makes it; None for the request itself.

    Attributes:
        below: What the calls below it have come to.
        depth: 0 for the request.
        deadline: On anyio's clock; when the calls below it are ended.
    """

    __slots__ = ("_above", "_caps", "_held", "_rules", "below", "deadline", "depth")

    def __init__(self, rules: Rules, caps: Caps = NO_CAPS, above: Purse | None = None) -> None:
        self._rules = rules
        self._caps = caps
        self._above = above
        self._held = 0
        self.below = Below()
        self.depth: int = 0 if above is None else above.depth + 1
        own = math.inf if caps.seconds is None else anyio.current_time() + caps.seconds
        self.deadline: float = own if above is None else min(own, above.deadline)

    def inner(self, caps: Caps, at_most_usd: float | None = None) -> Purse:
        """The purse of a call that is made for this one."""
        if at_most_usd is not None and (caps.usd is None or caps.usd > at_most_usd):
            caps = Caps(at_most_usd, caps.calls, caps.seconds)
        return Purse(self._rules, caps, self)

    def room_usd(self) -> float:
        """Dollars that calls below it may still cost; infinite if nothing bounds them."""
        return self._room() / NANO_PER_USD

    @contextmanager
    def holding(self, card: ExpertCard, request: ChatRequest) -> Iterator[Held]:
        """Set aside what the call of this purse may cost, and book what it did in the end.

        Raises:
            ExpertCapError: A cap leaves no room for it.
        """
        self._check(card)
        held, reserved = Held(request), 0
        if not card.composed:
            held.request, reserved = self._bounded(card, request)
            for purse in self._chain():
                purse.below.calls += 1
        for purse in self._chain():
            purse._held += reserved
        try:
            yield held
        finally:
            cost = 0 if card.composed else held.cost_nanousd or 0
            for purse in self._chain():
                purse._held -= reserved
                purse.below.nanousd += cost
            self._tell_tokens(held.usage)

    def _tell_tokens(self, usage: Usage | None) -> None:
        if self._above is not None and usage is not None:
            before = self._above.below.usage
            # Without what the provider said of its own call.
            self._above.below.usage = (before or Usage()) + usage

    def _chain(self) -> Iterator[Purse]:
        purse: Purse | None = self
        while purse is not None:
            yield purse
            purse = purse._above

    def _room(self) -> float:
        return min(purse._own_room() for purse in self._chain())

    def _own_room(self) -> float:
        if self._caps.usd is None:
            return math.inf
        most = math.floor(min(self._caps.usd, MOST_USD) * NANO_PER_USD)
        return max(0, most - self.below.nanousd - self._held)

    def _check(self, card: ExpertCard) -> None:
        if self.depth <= 1:
            # Nobody made this call but the request itself.
            return
        if card.composed and self.depth > self._rules.depth:
            raise ExpertCapError(
                card.expert_id, f"compositions may nest {self._rules.depth} deep, see `limits`"
            )
        for purse in self._chain():
            most = purse._caps.calls if purse._above else self._rules.calls
            if not card.composed and most is not None and purse.below.calls >= most:
                raise ExpertCapError(card.expert_id, f"the {most} calls allowed are made")
        if anyio.current_time() >= self.deadline:
            raise ExpertCapError(card.expert_id, "the composition's time is up")

    def _bounded(self, card: ExpertCard, request: ChatRequest) -> tuple[ChatRequest, int]:
        """The request as it may be sent, and the nano-dollars to hold for it."""
        room = self._room() if self.depth > 1 else math.inf
        if room == math.inf:
            return request, 0
        if card.prices is None:
            raise ExpertCapError(card.expert_id, "its price is unknown, so no cap can be kept")
        worst = worst_case(card, card.prices, request, self._rules.default_tokens)
        if worst is None:
            raise ExpertCapError(card.expert_id, "nothing bounds what an image or a file costs")
        if worst.cost(worst.tokens) <= room:
            sent = bounded(request, worst.tokens) if worst.implied else request
            return sent, worst.cost(worst.tokens)
        tokens = worst.affordable(int(room))
        least = min(self._rules.least_tokens, worst.tokens)
        if tokens < least:
            raise ExpertCapError(
                card.expert_id,
                f"it may cost ${worst.cost(least) / NANO_PER_USD:.3g}, "
                f"the cap leaves ${room / NANO_PER_USD:.3g}",
            )
        return bounded(request, tokens), worst.cost(tokens)
