"""A streamed answer, from the provider's bytes to the client's, chunk by chunk. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import orjson

from experts.errors import ExpertCallError, ExpertProtocolError
from experts.messages import Delta, Event, Json, Usage
from experts.wire.depth import load_json
from experts.wire.dialect import Reader
from experts.wire.halves import without_halves
from experts.wire.openai_reading import MessagePieces, usage_events
from experts.wire.reading import endless, lost_piece, nameless_call
from experts.wire.refusals import failure_in_answer
from experts.wire.sse import DONE, EventTooLongError, SseDecoder
from experts.wire.tool_calls import ToolCallPieces
from gateway.api.chat_out import DONE as DONE_EVENT
from gateway.api.chat_out import ChunkWriter, chunk_fields, sse, usage_json
from gateway.api.front import Envelope
from gateway.fast.deltas import asked_choices, fit_choice
from gateway.fast.mould import Mould, mould_of
from gateway.fast.naming import ModelName

_NO_USAGE = b',"usage":null'

_TEXTS_TOGETHER = 256
_FRAME = 16
"""A chunk that is kept whole says a sixteenth of itself at most; the rest is its frame."""
_PLAIN_CHOICE = frozenset({"index", "delta", "finish_reason", "logprobs"})
_PLAIN_DELTA = frozenset({"role", "content"})
_HEAD = (("id", str), ("object", str), ("created", int))


class Stream(Protocol):
    """One answer on its way through.

    Attributes:
        begun: Its first token came; what was held back before it goes with it.
        spoke: A piece of the answer came since somebody set this to False; chunks that say nothing
            are no sign of life.
        done: `[DONE]` came.
        failure: Why nothing more can come of it, once that is so.
    """

    begun: bool
    spoke: bool
    failure: ExpertCallError | None

    @property
    def done(self) -> bool: ...

    @property
    def finished(self) -> bool:
        """Every choice has its finish reason."""
        ...

    @property
    def usage(self) -> Usage | None:
        """The tokens as last reported."""
        ...

    @property
    def finish_reason(self) -> str | None:
        """Of the choice that ended last."""
        ...

    @property
    def malformed(self) -> int:
        """Chunks that were no JSON and were passed over."""
        ...

    def feed(self, chunk: bytes) -> bytes:
        """What goes to the client of `chunk`, and of what was held back before."""
        ...

    def close(self) -> bytes:
        """The body has ended: what goes to the client of the rest."""
        ...

    def ending(self, usage: Usage, cost_usd: float | None) -> bytes:
        """What ends a complete answer."""
        ...

    def events(self) -> Iterator[Event]:
        """What the client was sent, usage aside."""
        ...

    def writer(self) -> ChunkWriter:
        """Writes on where this answer broke."""
        ...


class RawStream:
    """Chunks of one choice go through as they came, but for the name of the model.

    Args:
        envelope: What the answer says of itself where the provider said nothing.
        reader: Reads the chunks again, should the answer break.
        include_usage: The client wants the usage at the end.
        max_event_bytes: Longest event, and most characters of the answer.
    """

    def __init__(
        self,
        envelope: Envelope,
        reader: Callable[[], Reader],
        max_event_bytes: int,
        *,
        include_usage: bool,
    ) -> None:
        self.begun = self.spoke = self.done = self.finished = False
        self.failure: ExpertCallError | None = None
        self.usage: Usage | None = None
        self.finish_reason: str | None = None
        self.malformed = 0
        self._envelope = envelope
        self._reader = reader
        self._include_usage = include_usage
        self._decoder = SseDecoder(max_event_bytes)
        self._name = ModelName(envelope.expert)
        self._held: list[bytes] = []
        self._kept: list[bytes | str] = []
        self._most = self._look_at = max_event_bytes
        self._came = self._length = 0
        self._texts: list[str] = []
        self._first: Json = {}
        self._mould: Mould | None = None
        self._messages = MessagePieces()
        self._calls = ToolCallPieces()

    def feed(self, chunk: bytes) -> bytes:
        self._came += len(chunk)
        if self._came > self._look_at and self._is_endless():
            self.failure = endless(self._envelope.expert)
            return b""
        if self._mould is not None and self._decoder.idle and not self.finished:
            texts = self._mould.texts(chunk)
            if texts is not None:
                self._remember(texts)
                return self._mould.passed(chunk)
        try:
            payloads = self._decoder.feed(chunk)
        except EventTooLongError as error:
            self.failure = ExpertProtocolError(self._envelope.expert, str(error))
            payloads = []
        return self._passed(payloads)

    def _is_endless(self) -> bool:
        """Whether more was said or is held than any answer says. That takes as many bytes more."""
        self._put_texts_away()
        length = self._length + sum(map(len, self._held))
        self._look_at = self._came + self._most - length
        return length > self._most

    def close(self) -> bytes:
        passed = self._passed(self._decoder.finish())
        if not self.finished and self.failure is None:
            message = "the stream ended before the answer did"
            self.failure = ExpertProtocolError(self._envelope.expert, message)
        return passed

    def _passed(self, payloads: list[bytes]) -> bytes:
        out = self._held
        for payload in payloads:
            if self.done or self.failure is not None:
                break
            if self._is_like_before(payload, out):
                continue
            try:
                self._take(*_read(payload), out)
            except (TypeError, ValueError, AttributeError, KeyError):
                # No JSON, or of another shape than a chunk.
                if payload.strip() == DONE:
                    self.done = True
                    continue
                self.malformed += 1
                if not self.finished:
                    self.failure = lost_piece(self._envelope.expert, payload)
        if not self.begun:
            return b""
        passed = b"".join(out)
        out.clear()
        return passed

    def _is_like_before(self, payload: bytes, out: list[bytes]) -> bool:
        mould = self._mould
        if mould is None or self.finished or (text := mould.text(payload)) is None:
            return False
        self._remember((text,))
        out.append(b"data: %b\n\n" % mould.passed(payload))
        return True

    def _take(self, payload: bytes, data: Json, out: list[bytes]) -> None:
        raw = payload
        if self._fails(data):
            return
        counted = self.usage
        if (usage := data.get("usage")) or "error" in data:
            if usage:
                counted = next(usage_events(data), counted)
            data = {**data, "usage": None}
            data.pop("error", None)
            payload = b""
        payload, data = self._with_head(payload, data)
        choices = data["choices"]
        if len(choices) == 1 and not choices[0].get("index"):
            self._put(payload, data, out, raw)
        elif choices:
            for choice in (asked := asked_choices(choices)):
                self._put(b"", {**data, "choices": [choice]}, out, b"")
            self.malformed += len(asked) < len(choices)
        elif not usage:
            self._put(payload, data, out, raw)
        self.usage = counted

    def _put(self, payload: bytes, data: Json, out: list[bytes], raw: bytes) -> None:
        """Pass on a chunk of one choice or none; `raw` is the same as it came, if it came so."""
        follows = bool(self._first)
        payload, data = self._in_deltas(payload, data)
        if self.finished:
            return
        if ("usage" in data) is not self._include_usage:
            payload, data = self._with_usage(payload, data)
        # Nothing is noted of a chunk that is not passed on.
        payload, data = self._fit(payload, data)
        choices = data["choices"]
        for choice in choices:
            self._see(choice)
        if self.failure is not None:
            return
        payload = payload or orjson.dumps(data)
        passed = self._name.put(payload, data)
        if choices and not self._first:
            self._begin(data, out)
        text = self._keep(payload, choices)
        if text and follows and not self._messages:
            self._mould = mould_of(raw, passed, text) or self._mould
        out.append(b"data: %b\n\n" % passed)

    def _with_head(self, payload: bytes, data: Json) -> tuple[bytes, Json]:
        """A chunk with what clients count on in each; Azure's first one has all of it empty."""
        unfit = [n for n, kind in _HEAD if type(data.get(n)) is not kind or data[n] == ""]
        if not unfit:
            return payload, data
        said = {name: value for name, value in data.items() if name not in unfit}
        return b"", {**chunk_fields(self._envelope), **said}

    def _in_deltas(self, payload: bytes, data: Json) -> tuple[bytes, Json]:
        """A chunk, with a delta where a choice's `message` tells what that should."""
        told = any(choice.get("message") for choice in data["choices"])
        if not told or (self.begun and not self._messages):
            return payload, data
        choices = []
        for choice in data["choices"]:
            rest = {name: value for name, value in choice.items() if name != "message"}
            if message := choice.get("message"):
                rest["delta"] = self._messages.fresh(message)
            choices.append(rest)
        return b"", {**data, "choices": choices}

    def _fails(self, data: Json) -> bool:
        if not self.finished:
            self.failure = failure_in_answer(self._envelope.expert, data)
        return self.failure is not None

    def _begin(self, data: Json, out: list[bytes]) -> None:
        self._first = data
        if "role" not in (data["choices"][0].get("delta") or {}):
            # Clients count on a stream that begins so.
            opening = {"index": 0, "delta": {"role": "assistant", "content": ""}}
            out.append(sse({**self._fields(), "choices": [{**opening, "finish_reason": None}]}))

    def _keep(self, payload: bytes, choices: list[Json]) -> str | None:
        """What is needed should the answer break: of most chunks no more than their text."""
        text = _plain_text(choices)
        if text is None:
            self._put_texts_away()
            self._kept.append(payload)
            self._length += len(payload) // _FRAME
        elif text:
            self._remember((text,))
        return text

    def _remember(self, texts: Iterable[str]) -> None:
        self._texts += texts
        self.spoke = True
        if len(self._texts) >= _TEXTS_TOGETHER:
            self._put_texts_away()

    def _put_texts_away(self) -> None:
        text = "".join(self._texts)
        self._texts.clear()
        if text:
            self._kept.append(text)
            self._length += len(text)

    def _fit(self, payload: bytes, data: Json) -> tuple[bytes, Json]:
        choices = data["choices"]
        fit = [fit_choice(choice, self._calls, begun=bool(self._first)) for choice in choices]
        if all(new is old for new, old in zip(fit, choices, strict=True)):
            return payload, data
        return b"", {**data, "choices": fit}

    def _with_usage(self, payload: bytes, data: Json) -> tuple[bytes, Json]:
        """`usage` is null until the end for who wants it, and not there for who does not."""
        if self._include_usage:
            return payload and payload.rstrip()[:-1] + b',"usage":null}', {**data, "usage": None}
        rest = {name: value for name, value in data.items() if name != "usage"}
        plain = payload.count(_NO_USAGE) == 1
        return payload.replace(_NO_USAGE, b"") if plain else b"", rest

    def _see(self, choice: Json) -> None:
        delta, reason = choice["delta"], choice.get("finish_reason")
        if reason and any(self._calls.nameless()):
            self.failure = nameless_call(self._envelope.expert)
            return
        if reason:
            self.finish_reason = reason
            self.finished = True
        if reason or choice.get("logprobs") or _says_something(delta):
            self.begun = self.spoke = True

    def ending(self, usage: Usage, cost_usd: float | None) -> bytes:
        if not self._include_usage:
            return DONE_EVENT
        told = {**usage_json(usage), "cost_usd": cost_usd}
        about = {**usage.answer, **self._fields()}
        return sse({**about, "choices": [], "usage": told}) + DONE_EVENT

    def events(self) -> Iterator[Event]:
        self._put_texts_away()
        read = self._reader()
        for kept in self._kept:
            data = _plain_chunk(kept) if isinstance(kept, str) else orjson.loads(kept)
            try:
                events = list(read(data))
            except (TypeError, ValueError, AttributeError):
                # It went through, but says nothing that we understand.
                continue
            yield from events

    def writer(self) -> ChunkWriter:
        writer = ChunkWriter(self._envelope, include_usage=self._include_usage)
        writer.go_on(self._fields(), 1)
        return writer

    def _fields(self) -> dict[str, Any]:
        rest = {name: value for name, value in self._first.items() if name != "choices"}
        return {**rest, "model": self._envelope.expert}


def _read(payload: bytes) -> tuple[bytes, Json]:
    """A chunk's bytes on one line, mended where a character in them is half, and what they say."""
    # Between `data:` lines stands white space of JSON; in a text it would be escaped.
    payload = payload.replace(b"\n", b" ")
    try:
        return payload, load_json(payload)
    except orjson.JSONDecodeError:
        mended = without_halves(payload)
        return mended, load_json(mended)


def _says_something(delta: Json) -> bool:
    said = delta.get("content") or any(v for name, v in delta.items() if name != "role")
    return bool(said)


def _plain_chunk(text: str) -> Json:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}


def _plain_text(choices: list[Json]) -> str | None:
    """The text of a chunk that says nothing else."""
    if len(choices) != 1 or not choices[0].keys() <= _PLAIN_CHOICE:
        return None
    choice = choices[0]
    delta = choice.get("delta") or {}
    if choice.get("finish_reason") or choice.get("logprobs"):
        return None
    for name, value in delta.items():
        if value and name not in _PLAIN_DELTA:
            return None
    text = delta.get("content") or ""
    return text if isinstance(text, str) else None


def seen_in(stream: Stream) -> list[str]:
    """All that was written, in pieces."""
    deltas = (event for event in stream.events() if isinstance(event, Delta))
    return [text for delta in deltas for text in (delta.text, delta.reasoning)]


def text_of(stream: Stream) -> str:
    """The text of the first choice."""
    deltas = (event for event in stream.events() if isinstance(event, Delta))
    return "".join(delta.text for delta in deltas if not delta.choice)
