"""How one kind of HTTP endpoint is asked and read: the seam between wire formats and transport."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from experts.messages import ChatRequest, Delta, Event, Json, Usage

Reader = Callable[[Json], Iterator[Event]]


class Dialect(Protocol):
    """One wire format of one endpoint."""

    path: str

    def body(self, request: ChatRequest, model: str) -> dict[str, Any]:
        """The JSON to send.

        Raises:
            ExpertRejectedError: This wire format can't say what the request asks for.
        """
        ...

    def headers(self, request: ChatRequest) -> dict[str, str]:
        """Headers for this request, beyond those of every request."""
        ...

    def reader(self, request: ChatRequest) -> Reader:
        """Reads one answer to `request`: called with the whole of it, or with chunk after chunk."""
        ...


def with_echo(read: Reader, request: ChatRequest) -> Reader:
    """`read`, with the prompt before each answer where one is to be continued and wants that.

    In a chat a field of that name is the server's own.
    """
    if request.task != "complete" or not request.params.get("echo"):
        return read
    begun: set[int] = set()

    def events(data: Json) -> Iterator[Event]:
        for event in read(data):
            if not isinstance(event, Usage) and event.choice not in begun:
                begun.add(event.choice)
                yield Delta(str(request.raw[0]), event.choice)
            yield event

    return events
