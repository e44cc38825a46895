"""The rule of a cascade in its two parts: a signal of a draft's quality, and a gate."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol

from experts.base import Call
from experts.compose.base import ChildRequest, Reply
from experts.messages import ChatRequest


class Action(StrEnum):
    """What becomes of a draft."""

    ACCEPT = "accept"
    """It is the answer."""
    DEFER = "defer"
    """The next expert is asked."""
    HOPELESS = "hopeless"
    """It is the answer too: a dearer expert would not do better."""


class SignalResult(NamedTuple):
    """What a signal found.

    Attributes:
        score: How good the draft seems, in [0, 1]; None: it can't be told.
        reply: A better draft that came up in the course; None: the draft as it is.
    """

    score: float | None
    reply: Reply | None = None


class Signal(Protocol):
    """How good a draft seems, from what comes with it or from calls of its own."""

    @property
    def calls(self) -> float:
        """Calls of whoever drafted that are made per draft beside the draft itself."""
        ...

    def asks(self, request: ChatRequest) -> ChatRequest:
        """`request` as it must be asked for the signal to be there, e.g. with `logprobs`."""
        ...

    async def measure(
        self, request: ChatRequest, reply: Reply, asked: ChildRequest, call: Call
    ) -> SignalResult:
        """Judge one draft.

        Args:
            request: What the client asks.
            reply: The draft; it did not fail.
            asked: Who drafted it, and what was asked of it.
            call: The cascade's own, for further calls.
        """
        ...


class Ruling(NamedTuple):
    """What a gate decides.

    Attributes:
        action: What becomes of the draft.
        propensity: The probability that this action had, in (0, 1].
    """

    action: Action
    propensity: float = 1.0


class Gate(Protocol):
    """What follows from a score."""

    def decide(self, score: float) -> Ruling:
        """The action for a draft of this score, in [0, 1]."""
        ...


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found of one draft.

    Attributes:
        ruling: What becomes of it.
        score: See `SignalResult`.
        reply: The draft to go on with.
    """

    ruling: Ruling
    score: float | None
    reply: Reply

    @property
    def defers(self) -> bool:
        return self.ruling.action is Action.DEFER


@dataclass(frozen=True, slots=True)
class Deferral:
    """One rule. A draft that can't be judged is not good enough."""

    signal: Signal
    gate: Gate

    async def judge(
        self, request: ChatRequest, reply: Reply, asked: ChildRequest, call: Call
    ) -> Verdict:
        """What becomes of a draft."""
        measured = await self.signal.measure(request, reply, asked, call)
        score = measured.score
        ruling = Ruling(Action.DEFER) if score is None else self.gate.decide(score)
        return Verdict(ruling, score, measured.reply or reply)
