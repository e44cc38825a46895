"""The one seam: what it means to be an expert.

A model behind an API, a local engine, a calculator and a composition of others all look like this.
An expert neither retries nor keeps books: whoever runs it does (one place for all of them), and
hands a composition a `Runner` so that the calls it makes are run and booked the same way.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Protocol

from experts.cards import NANO_PER_USD, ExpertCard
from experts.http.replicas import Endpoint, Lease
from experts.messages import ChatRequest, Event, Json, Usage


@dataclass(slots=True)
class Below:
    """What the calls that were made for one call have come to so far.

    Attributes:
        calls: Calls of models, made for its children too.
        nanousd: What all of them cost, dollars times 1e9; an unknown cost counts as nothing.
        usage: Their tokens; None while nobody has counted any.
    """

    calls: int = 0
    nanousd: int = 0
    usage: Usage | None = None

    @property
    def usd(self) -> float:
        return self.nanousd / NANO_PER_USD


def _boundless() -> float:
    return inf


Expects = Callable[[ChatRequest], Awaitable[Mapping[str, tuple[float, float]]]]
"""Expected quality on a request, in [0, 1], and its standard error, by expert id."""


async def nothing_known(_request: ChatRequest) -> Mapping[str, tuple[float, float]]:
    """What is expected where nobody has learned anything."""
    return {}


@dataclass(slots=True)
class Call:
    """The surroundings of one call.

    Attributes:
        run: Asks another expert as a child of this call. A leaf expert never uses it.
        session: The client's name for the conversation, for whoever keeps caches per session.
        header_s: Longest wait for the head of a streamed answer; None leaves it to the caller.
        header_limit: What is said of that limit when it was reached.
        avoid: Endpoints that failed this request before.
        lease: Where the call went, filled in by an expert that has several endpoints, so that the
            caller can book a timeout on the one that was slow.
        spare: Set by such an expert: another endpoint is worth trying.
        headers: Sent along, e.g. `traceparent`.
        below: What the children of this call have come to; whoever runs them keeps it.
        room_usd: Dollars that further children may cost; infinite without a cap.
        trace: What a composition leaves behind of how it came to its answer, one record a step: it
            goes to the ledger, never to the client. What people or models wrote stands in its
            `text`, a mapping of texts that is kept as the ledger keeps texts.
        expects: What is expected of experts; who is missing is unknown.
    """

    run: Runner
    session: str | None = None
    header_s: float | None = None
    avoid: list[Endpoint] = field(default_factory=list)
    lease: Lease | None = None
    spare: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    below: Below = field(default_factory=Below)
    room_usd: Callable[[], float] = _boundless
    trace: list[Json] = field(default_factory=list)
    expects: Expects = nothing_known
    header_limit: str = ""


class Runner(Protocol):
    """Asks an expert as a child of the call at hand, and keeps the books of it."""

    def __call__(
        self, expert: Expert, request: ChatRequest, at_most_usd: float | None = None, /
    ) -> AsyncGenerator[Event, None]:
        """The child's events.

        Args:
            expert: Whom to ask.
            request: What to ask.
            at_most_usd: Most dollars that it and all below it may cost, beside other caps.

        Raises:
            ExpertCallError: It failed; `ExpertCapError` if a cap leaves no room for it.
        """
        ...


class Expert(Protocol):
    """Something that can answer a chat request.

    `answer` yields `Delta`s, one `Finish` per choice, and one `Usage` if the provider counted. It
    ends normally only when the answer is complete; a cut or refused answer raises an
    `ExpertCallError`. Closing the generator stops the work upstream.
    """

    @property
    def card(self) -> ExpertCard: ...

    def answer(self, request: ChatRequest, call: Call) -> AsyncGenerator[Event, None]: ...

    async def aclose(self) -> None:
        """Give back connections and processes; no call may follow."""
