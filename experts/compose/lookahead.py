"""The chooser of cascade routing that needs no training: one step ahead, by cards and signals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from experts.base import Call, Expert
from experts.compose.base import ChildRequest, Reply
from experts.compose.deferral.base import Signal
from experts.compose.routed import NextStep
from experts.messages import ChatRequest

_BYTES_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Lookahead:
    """Asks whoever promises the most over the best answer so far, at what that costs.

    A child's quality is what the router expects of it on the request, or its card's prior, until it
    has answered; then it is the signal's score. Of child i with
    quality q and deviation s, and a best answer worth b, the promise is E[max(b, N(q, s))] - b,
    minus `weight` times its dollars; with none above 0 it stops.

    Attributes:
        signal: What an answer is judged by.
        weight: Quality, in [0, 1], that a dollar has to bring; >= 0.
        stderr: Deviation of a child's quality on one request from what is expected, > 0.
        output_tokens: Answer to reckon with where the request bounds none.
    """

    signal: Signal
    weight: float
    stderr: float = 0.25
    output_tokens: float = 300.0

    def asks(self, request: ChatRequest) -> ChatRequest:
        return self.signal.asks(request)

    def begin(self, request: ChatRequest, children: Sequence[Expert], call: Call) -> LookaheadSteps:
        return LookaheadSteps(self, request, children, call)


@dataclass(slots=True)
class LookaheadSteps:
    """See `Lookahead`."""

    rule: Lookahead
    request: ChatRequest
    children: Sequence[Expert]
    call: Call
    scores: dict[int, float] = field(default_factory=dict)
    better: dict[int, Reply] = field(default_factory=dict)
    failed: set[int] = field(default_factory=set)
    known: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    async def next(self, reply: Reply | None) -> NextStep:
        if reply is None:
            self.known = await self.call.expects(self.request)
        else:
            await self._hear(reply)
        best = max(self.scores, key=self.scores.__getitem__, default=None)
        promises = {
            index: self._promise(index, 0.0 if best is None else self.scores[best])
            for index in range(len(self.children))
            if index not in self.scores and index not in self.failed
        }
        ahead = max(promises, key=promises.__getitem__, default=None)
        if ahead is not None and best is not None and promises[ahead] <= 0:
            ahead = None
        why = {
            "promise": None if ahead is None else promises[ahead],
            "score": None if best is None else self.scores[best],
        }
        return NextStep(ahead, best, why=why, reply=None if best is None else self.better.get(best))

    async def _hear(self, reply: Reply) -> None:
        if reply.error is not None:
            self.failed.add(reply.index)
            return
        asked = ChildRequest(self.children[reply.index], self.rule.asks(self.request))
        measured = await self.rule.signal.measure(self.request, reply, asked, self.call)
        if measured.reply is not None:
            self.better[reply.index] = measured.reply
        quality, _ = self._expected(reply.index)
        self.scores[reply.index] = quality if measured.score is None else measured.score

    def _expected(self, index: int) -> tuple[float, float]:
        """Quality of a child on this request, and how far it may be from that."""
        card = self.children[index].card
        quality, stderr = self.known.get(card.expert_id, (card.quality_prior, 0.0))
        return quality, math.hypot(stderr, self.rule.stderr)

    def _promise(self, index: int, best: float) -> float:
        card = self.children[index].card
        gain = expected_excess(*self._expected(index), best)
        if card.prices is None:
            return gain
        prompt = len(self.request.text.encode(errors="replace")) / _BYTES_PER_TOKEN
        answer = self.request.max_tokens or self.rule.output_tokens
        return gain - self.rule.weight * card.prices.expected_usd(prompt, answer)


def expected_excess(mean: float, stderr: float, floor: float) -> float:
    """E[max(floor, X)] - floor for X normal with that mean and deviation (Clark's closed form)."""
    z = (mean - floor) / stderr
    density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    below = 0.5 * (1 + math.erf(z / math.sqrt(2)))
    return (mean - floor) * below + stderr * density
