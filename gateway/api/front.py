"""The seam between wire formats and the gateway: what an API must be able to do."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from experts.messages import Completion, Event, Usage
from gateway.access.keys import Key
from gateway.ask import Ask
from gateway.errors import ApiError


@dataclass(frozen=True, slots=True)
class Envelope:
    """What an answer says of itself on every wire."""

    decision_id: str
    expert: str
    created: int = field(default_factory=lambda: int(time.time()))


class Writer(Protocol):
    """Renders one streamed answer. Every piece is complete as it is returned: nothing is held."""

    def write(self, event: Event) -> Iterator[bytes]:
        """The bytes for one event, possibly none."""
        ...

    def end(self, usage: Usage, cost_usd: float | None) -> Iterator[bytes]:
        """The bytes after a complete answer; `cost_usd` is None when it is not known."""
        ...

    def fail(self, failure: ApiError) -> Iterator[bytes]:
        """The bytes after an answer that broke: an in-band error, and nothing that ends it well."""
        ...


class Front(Protocol):
    """One wire format as clients speak it.

    Attributes:
        wire: What the ledger calls it, e.g. "openai.chat".
    """

    wire: str

    def parse(self, raw: bytes, headers: Mapping[str, str], key: Key) -> Ask:
        """A body as an `Ask`.

        Raises:
            ApiError: 400 naming the field at fault.
        """
        ...

    def whole(self, ask: Ask, envelope: Envelope, completion: Completion, usage: Usage) -> bytes:
        """The body of an answer that is not streamed."""
        ...

    def writer(self, ask: Ask, envelope: Envelope) -> Writer:
        """A new writer for one streamed answer."""
        ...

    def error(self, failure: ApiError, request_id: str) -> bytes:
        """The body of an answer that failed; `request_id` is the request's, decided or not."""
        ...
