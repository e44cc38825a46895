"""A scorer that has learned from outcomes whether an answer is right."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from experts.base import Call
from experts.compose.base import Asked, Reply
from experts.compose.deferral.base import Measured
from experts.messages import ChatRequest

Score = Callable[[ChatRequest, Reply], Awaitable[float | None]]
"""P(the answer is right), in [0, 1], by question and answer; fitted and brought from outside."""


@dataclass(frozen=True, slots=True)
class Learned:
    """The probability that a fitted scorer gives a draft.

    Attributes:
        score: The scorer.
        needs: What drafts must be asked with for it, e.g. another signal whose score it reads.

    Source: L. Chen, M. Zaharia, J. Zou, "FrugalGPT", 2023.
    """

    score: Score
    needs: Callable[[ChatRequest], ChatRequest] | None = None

    @property
    def calls(self) -> float:
        return 0.0

    def asks(self, request: ChatRequest) -> ChatRequest:
        return request if self.needs is None else self.needs(request)

    async def measure(
        self, request: ChatRequest, reply: Reply, asked: Asked, call: Call
    ) -> Measured:
        return Measured(await self.score(request, reply))
