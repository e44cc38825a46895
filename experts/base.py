"""The one seam: what it means to be an expert.

A model behind an API, a local engine, a calculator and a composition of others all look like this.
An expert neither retries nor keeps books: whoever runs it does (one place for all of them), and
hands a composition a `Runner` so that the calls it makes are run and booked the same way.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from experts.cards import ExpertCard
from experts.messages import ChatRequest, Event
from experts.replicas import Endpoint, Lease


@dataclass(slots=True)
class Call:
    """The surroundings of one call.

    Attributes:
        run: Asks another expert as a child of this call. A leaf expert never uses it.
        session: The client's name for the conversation, for whoever keeps caches per session.
        header_s: Longest wait for the head of a streamed answer; None leaves it to the caller.
        avoid: Endpoints that failed this request before.
        lease: Where the call went, filled in by an expert that has several endpoints, so that the
            caller can book a timeout on the one that was slow.
        spare: Set by such an expert: another endpoint is worth trying.
        headers: Sent along, e.g. `traceparent`.
    """

    run: Runner
    session: str | None = None
    header_s: float | None = None
    avoid: list[Endpoint] = field(default_factory=list)
    lease: Lease | None = None
    spare: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)


Runner = Callable[["Expert", ChatRequest], AsyncGenerator[Event, None]]


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
