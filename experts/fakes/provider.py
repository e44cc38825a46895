"""An OpenAI-compatible provider on the loopback address that does what its script says.

For tests and trials of what real providers do at their worst: it answers, streams, stalls, refuses
and breaks off on request, keeps every body it was sent, and notices when a client leaves.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import orjson

from experts.fakes.server import (
    LAST_CHUNK,
    Act,
    FakeServer,
    ReceivedRequest,
    Then,
    chunk,
    event,
    head,
    serving,
    whole,
)


@dataclass(frozen=True, slots=True)
class Reply:
    """What to do with one request.

    Attributes:
        text: The answer; streamed word by word when the request asks for a stream.
        status: An error status sends `error` instead.
        error: OpenAI's error object.
        headers: Extra response headers.
        usage: Token counts to report; None reports none.
        finish: Its finish reason; None never sends one.
        cut_after: Close the connection after so many chunks; half-way if not streamed.
        stall_after: Send nothing more after so many chunks, until the client leaves; an answer
            that is not streamed sends nothing at all.
        tool_calls: Tool calls to answer with.
        whole: The body of an answer that is not streamed, instead of one made from the above.
        chunks: The events of one that is.
    """

    text: str = "Hello there"
    status: int = 200
    error: dict[str, Any] = field(default_factory=lambda: {"message": "scripted"})
    headers: dict[str, str] = field(default_factory=dict)
    usage: dict[str, Any] | None = field(
        default_factory=lambda: {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
    )
    finish: str | None = "stop"
    cut_after: int | None = None
    stall_after: int | None = None
    tool_calls: tuple[dict[str, Any], ...] = ()
    whole: dict[str, Any] | None = None
    chunks: tuple[Any, ...] = ()

    def body(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """The whole answer to a request with the body `asked`."""
        if self.whole is not None:
            return self.whole
        if "input" in asked:
            return self._vectors(asked)
        if "prompt" in asked:
            choice: dict[str, Any] = {"index": 0, "text": self.text}
        else:
            message: dict[str, Any] = {"role": "assistant", "content": self.text}
            if self.tool_calls:
                message |= {"content": None, "tool_calls": list(self.tool_calls)}
            choice = {"index": 0, "message": message}
        ended = {**choice, "finish_reason": self.finish}
        answer = {"model": asked.get("model"), "choices": [ended]}
        return {**answer, "usage": self.usage} if self.usage else answer

    def events(self, asked: Mapping[str, Any]) -> list[bytes]:
        """The same as a stream."""
        return [event(payload) for payload in self._payloads(asked)]

    def _vectors(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        data = [
            {"object": "embedding", "index": index, "embedding": [float(len(self.text)), 0.5]}
            for index, _ in enumerate(asked["input"])
        ]
        answer = {"object": "list", "data": data, "model": asked.get("model")}
        return {**answer, "usage": self.usage} if self.usage else answer

    def _payloads(self, asked: Mapping[str, Any]) -> Iterator[Any]:
        if self.chunks:
            yield from self.chunks
            return
        for place, word in enumerate(self.text.split(" ")):
            said = _piece(f" {word}" if place else word, asked)
            yield {"choices": [{"index": 0, **said, "finish_reason": None}]}
        for index, call in enumerate(self.tool_calls):
            delta = {"tool_calls": [{"index": index, **call}]}
            yield {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        if self.finish:
            yield {"choices": [{"index": 0, **_piece("", asked), "finish_reason": self.finish}]}
        if self.usage and (asked.get("stream_options") or {}).get("include_usage"):
            yield {"choices": [], "usage": self.usage}
        yield "[DONE]"


class FakeProvider(FakeServer):
    """One server; `script` is used up reply by reply, then `otherwise` for ever."""

    def __init__(self) -> None:
        super().__init__()
        self.script: deque[Reply] = deque()
        self.otherwise = Reply()

    def acts(self, asked: ReceivedRequest) -> Iterator[Act]:
        reply = self.script.popleft() if self.script else self.otherwise
        if reply.status >= 400:
            yield whole(reply.status, {"error": reply.error}, reply.headers)
        elif asked.body.get("stream"):
            yield from _streamed(reply, asked.body)
        elif reply.stall_after is not None:
            yield Then.STALL
        else:
            data = orjson.dumps(reply.body(asked.body))
            headers = {"content-type": "application/json", **reply.headers}
            yield head(200, headers, len(data))
            yield data if reply.cut_after is None else data[: len(data) // 2]
            if reply.cut_after is not None:
                yield Then.CLOSE


def fake_provider() -> AbstractContextManager[FakeProvider]:
    """A provider that serves from a thread while the context is open."""
    return serving(FakeProvider())


def _streamed(reply: Reply, asked: Mapping[str, Any]) -> Iterator[Act]:
    yield head(200, {"content-type": "text/event-stream", **reply.headers}, None)
    for index, data in enumerate(reply.events(asked)):
        if index == reply.cut_after:
            yield Then.CLOSE
        if index == reply.stall_after:
            yield Then.STALL
        yield chunk(data)
    yield LAST_CHUNK


def _piece(text: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    return {"text": text} if "prompt" in asked else {"delta": {"content": text} if text else {}}
