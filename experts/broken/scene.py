"""What goes wrong with providers, one function for each, down to bytes and moments.

A fault is given a `Scene`, the right answer in bytes, and says what is sent instead of it. They
stand in the other files of this folder; `experts.broken.provider` is a server that serves them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from experts.fakes.server import LAST_CHUNK, Act, ReceivedRequest, chunk, head

EVENTS = "text/event-stream"
JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Scene:
    """One request, and the right answer to it.

    Attributes:
        asked: The request.
        wire: `openai` or `anthropic`.
        body: The answer if it is not streamed.
        events: The answer if it is.
        told: After so many events some text has been said, but not all.
        ended: After so many events the finish reason has been said.
    """

    asked: ReceivedRequest
    wire: str
    body: Mapping[str, Any]
    events: tuple[bytes, ...]
    told: int
    ended: int

    @property
    def streams(self) -> bool:
        return bool(self.asked.body.get("stream"))

    @property
    def kind(self) -> str:
        """The content type of the answer."""
        return EVENTS if self.streams else JSON

    @property
    def all(self) -> bytes:
        """The whole body."""
        return b"".join(self.events) if self.streams else orjson.dumps(self.body)

    @property
    def part(self) -> bytes:
        """Its beginning; of a stream as much as tells some text."""
        return b"".join(self.events[: self.told]) if self.streams else self.all[:-40]

    @property
    def rest(self) -> bytes:
        return self.all[len(self.part) :]

    @property
    def unframed_head(self) -> bytes:
        """The head of an answer that ends with its connection."""
        headers = f"content-type: {self.kind}\r\nconnection: close\r\n\r\n"
        return b"HTTP/1.1 200 OK\r\n" + headers.encode()

    def head(self, length: int | None = None, **headers: Any) -> bytes:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return head(200, {"content-type": self.kind, **named}, length)

    def error(self, kind: str, message: str, code: str | None = None) -> dict[str, Any]:
        """An error as the wire format writes it."""
        if self.wire == "anthropic":
            return {"type": "error", "error": {"type": kind, "message": message}}
        return {"error": {"message": message, "type": kind, "param": None, "code": code}}


Acts = Iterator[Act]
Fault = Callable[[Scene], Acts]
FAULTS: dict[str, Fault] = {}
"""Every fault by name, `healthy` included."""


def fault(function: Fault) -> Fault:
    """`function` under its own name among `FAULTS`."""
    FAULTS[function.__name__] = function
    return function


@fault
def healthy(scene: Scene) -> Acts:
    """The right answer, event by event."""
    yield scene.head()
    for piece in scene.events if scene.streams else (scene.all,):
        yield chunk(piece)
    yield LAST_CHUNK
