"""An expert that plays a script: for tests, and for trying out a gateway without any model."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import anyio

from experts.base import Call
from experts.cards import ExpertCard
from experts.messages import ChatRequest, Delta, Event, Finish, Usage


@dataclass(frozen=True, slots=True)
class Sleep:
    """A step of a script: let so many seconds pass."""

    seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class Hold:
    """A step of a script: say that it is reached, then go no further until released."""

    reached: anyio.Event = field(default_factory=anyio.Event)
    release: anyio.Event = field(default_factory=anyio.Event)


Step = Event | Exception | Sleep | Hold
Script = Sequence[Step]


class Ending(StrEnum):
    """How one answer came to its end."""

    COMPLETE = "complete"
    FAILED = "failed"
    """The script raised."""
    CLOSED = "closed"
    """The caller closed it, or was cancelled, before the script was over."""


@dataclass(slots=True)
class ScriptedCall:
    """One call of a `ScriptedExpert`; `ending` is None while it is being answered."""

    request: ChatRequest
    ending: Ending | None = None


def says(text: str, usage: Usage | None = None, *, reason: str = "stop") -> Script:
    """A script that answers with `text`, word by word, and with `usage` unless that is None."""
    words = [Delta(word) for word in _words(text)]
    return [*words, Finish(reason), *([usage] if usage else [])]


class ScriptedExpert:
    """Answers its n-th call with its n-th script, and every later one with the last.

    Attributes:
        scripts: What it plays from the next call on.
        calls: All calls so far, oldest first.
        closed: Whether `aclose` was called.
    """

    def __init__(self, card: ExpertCard, *scripts: Script) -> None:
        if not scripts:
            raise ValueError(f"scripted expert {card.expert_id!r} needs at least one script")
        self.scripts = scripts
        self.calls: list[ScriptedCall] = []
        self.closed = False
        self._card = card

    @property
    def card(self) -> ExpertCard:
        return self._card

    @property
    def requests(self) -> list[ChatRequest]:
        """What it was asked, oldest first."""
        return [call.request for call in self.calls]

    async def answer(self, request: ChatRequest, call: Call) -> AsyncGenerator[Event, None]:
        script = self.scripts[min(len(self.calls), len(self.scripts) - 1)]
        record = ScriptedCall(request)
        self.calls.append(record)
        ending = Ending.CLOSED
        try:
            for step in script:
                if isinstance(step, Exception):
                    ending = Ending.FAILED
                    raise step
                if isinstance(step, Sleep):
                    await anyio.sleep(step.seconds)
                elif isinstance(step, Hold):
                    step.reached.set()
                    await step.release.wait()
                else:
                    yield step
            ending = Ending.COMPLETE
        finally:
            record.ending = ending

    async def aclose(self) -> None:
        self.closed = True


def _words(text: str) -> list[str]:
    first, *others = text.split(" ")
    return [first, *(f" {word}" for word in others)]
