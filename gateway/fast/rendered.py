"""A streamed answer that is read and written anew. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from experts.errors import ExpertCallError
from experts.messages import Event, Finish, Usage
from experts.wire.reading import StreamReader
from gateway.api.chat_out import ChunkWriter


class RenderedStream:
    """Chunks are read and written anew: tool calls put in order, several choices told apart."""

    def __init__(self, reader: StreamReader, writer: ChunkWriter) -> None:
        self.begun = self.spoke = False
        self.failure: ExpertCallError | None = None
        self._reader = reader
        self._writer = writer
        self._events: list[Event] = []

    @property
    def done(self) -> bool:
        return self._reader.done

    @property
    def finished(self) -> bool:
        return self._reader.finished

    @property
    def usage(self) -> Usage | None:
        return self._reader.usage

    @property
    def malformed(self) -> int:
        return self._reader.malformed

    @property
    def finish_reason(self) -> str | None:
        ends = [event.reason for event in self._events if isinstance(event, Finish)]
        return ends[-1] if ends else None

    def feed(self, chunk: bytes) -> bytes:
        return self._written(lambda: self._reader.feed(chunk))

    def close(self) -> bytes:
        return self._written(self._reader.end)

    def _written(self, read: Callable[[], list[Event]]) -> bytes:
        try:
            events = read()
        except ExpertCallError as error:
            self.failure = error
            return b""
        spoken = [event for event in events if not isinstance(event, Usage)]
        self._events += spoken
        self.begun |= bool(spoken)
        self.spoke |= bool(spoken)
        return b"".join(piece for event in spoken for piece in self._writer.write(event))

    def ending(self, usage: Usage, cost_usd: float | None) -> bytes:
        return b"".join(self._writer.end(usage, cost_usd))

    def events(self) -> Iterator[Event]:
        return iter(self._events)

    def writer(self) -> ChunkWriter:
        return self._writer
