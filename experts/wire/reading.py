"""One answer from bytes to events, whatever the wire format. Pure; no HTTP."""

from __future__ import annotations

import re

import orjson

from experts.errors import ExpertProtocolError
from experts.messages import Delta, Event, Finish, Json, Usage
from experts.wire.dialect import Reader
from experts.wire.halves import load_answer
from experts.wire.refusals import failure_in_answer
from experts.wire.sse import DONE, MAX_EVENT_BYTES, EventTooLongError, SseDecoder
from experts.wire.tool_calls import is_nameless

_SPEAKS = re.compile(
    rb'"(?:content|text|reasoning_content|reasoning|thinking|arguments|partial_json)"\s*:\s*"(?!")'
    rb'|"tool_calls"\s*:\s*\[\s*\{|"content_block_delta"'
)
"""What only stands in chunks with a piece of the answer."""

LAST_EVENT = "message_stop"
"""Anthropic's `[DONE]`."""


class StreamReader:
    """Reads a stream of chunks.

    A chunk that is no JSON, or of no known shape, is passed over and counted, but for one in which
    a piece of the answer had begun: the answer is not whole without. What follows a choice's finish
    is no part of the answer, nor is a choice that nobody asked for: it is passed over. Usage is
    given once, at the end, as it was reported last: some providers repeat a growing count in every
    chunk.

    Args:
        expert_id: Whose answer it is, for errors.
        read: The dialect's reader.
        choices: How many choices were asked for.
        max_event_bytes: Longest event, and most characters of the answer.
        held: The answer is held until it is whole, so that its chunks count and not its text alone.

    Attributes:
        malformed: Chunks that were passed over.
        done: `[DONE]` or Anthropic's word for it has come; nothing else can.
    """

    def __init__(
        self,
        expert_id: str,
        read: Reader,
        choices: int = 1,
        max_event_bytes: int = MAX_EVENT_BYTES,
        *,
        held: bool = False,
    ) -> None:
        self._expert_id = expert_id
        self._read = read
        self._choices = choices
        self._decoder = SseDecoder(max_event_bytes)
        self._left = max_event_bytes
        self._held = held
        self._begun: set[int] = set()
        self._finished: set[int] = set()
        self._usage: Usage | None = None
        self.malformed = 0
        self.done = False

    @property
    def finished(self) -> bool:
        """Every choice that was asked for has its finish reason; only usage may still come."""
        return len(self._finished) >= self._choices and self._begun <= self._finished

    @property
    def usage(self) -> Usage | None:
        """The tokens as last reported."""
        return self._usage

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that `chunk` completes.

        Raises:
            ExpertCallError: The provider sent an error, or an event or an answer without end.
        """
        try:
            payloads = self._decoder.feed(chunk)
        except EventTooLongError as error:
            raise ExpertProtocolError(self._expert_id, str(error)) from error
        events = self._events(payloads)
        self._left -= len(chunk) if self._held else sum(map(_length, events))
        if self._left < 0:
            raise endless(self._expert_id)
        return events

    def end(self) -> list[Event]:
        """The last events, when nothing more comes.

        Raises:
            ExpertProtocolError: The answer is not complete.
        """
        events = self._events(self._decoder.finish())
        if not self._finished or not self._begun <= self._finished:
            raise ExpertProtocolError(self._expert_id, "the stream ended before the answer did")
        if self._usage is not None:
            events.append(self._usage)
        return events

    def _events(self, payloads: list[bytes]) -> list[Event]:
        events: list[Event] = []
        for payload in payloads:
            if self.done:
                break
            if payload.strip() == DONE:
                self.done = True
            elif (data := self._parsed(payload)) is not None:
                self._take(payload, data, events)
        return events

    def _take(self, payload: bytes, data: Json, events: list[Event]) -> None:
        if data.get("type") == LAST_EVENT:
            self.done = True
            return
        failure = None if self.finished else failure_in_answer(self._expert_id, data)
        if failure is not None:
            raise failure
        try:
            found = list(self._read(data))
        except (TypeError, ValueError, AttributeError):
            # JSON, but of another shape than a chunk.
            self._pass_over(payload)
            return
        unasked = False
        for event in found:
            if isinstance(event, Usage):
                self._usage = event
            elif event.choice >= self._choices:
                unasked = True
            elif event.choice not in self._finished:
                self._begun.add(event.choice)
                if isinstance(event, Finish):
                    self._finished.add(event.choice)
                else:
                    _check_calls(self._expert_id, event)
                events.append(event)
        self.malformed += unasked

    def _parsed(self, payload: bytes) -> Json | None:
        try:
            data = load_answer(payload)
        except orjson.JSONDecodeError:
            data = None
        if isinstance(data, dict):
            return data
        self._pass_over(payload)
        return None

    def _pass_over(self, payload: bytes) -> None:
        self.malformed += 1
        if not self.finished and (lost := lost_piece(self._expert_id, payload)) is not None:
            raise lost from None


def endless(expert_id: str) -> ExpertProtocolError:
    """Why no more is read of an answer that is longer than any can be."""
    return ExpertProtocolError(expert_id, "the answer does not end")


def _length(event: Event) -> int:
    """Characters of a piece."""
    if not isinstance(event, Delta):
        return 0
    length = len(event.text) + len(event.reasoning)
    for piece in event.tool_calls:
        length += len((piece.get("function") or {}).get("arguments") or "")
    return length


def lost_piece(expert_id: str, payload: bytes) -> ExpertProtocolError | None:
    """Why an answer is not whole without a chunk that can't be read: a piece of it is in there."""
    if _SPEAKS.search(payload) is None:
        return None
    return ExpertProtocolError(expert_id, "a piece of the answer is in a chunk that can't be read")


def nameless_call(expert_id: str) -> ExpertProtocolError:
    """Why an answer is none that calls a tool and does not say which: nobody can make the call."""
    return ExpertProtocolError(expert_id, "called a tool without saying which")


def _check_calls(expert_id: str, delta: Delta) -> None:
    if delta.tool_calls and any(map(is_nameless, delta.tool_calls)):
        raise nameless_call(expert_id)


def whole_answer(expert_id: str, read: Reader, content: bytes, choices: int = 1) -> list[Event]:
    """The events of an answer that was not streamed, of the `choices` that were asked for.

    Raises:
        ExpertCallError: It is an error, no JSON, or has no finished choice.
    """
    try:
        data = load_answer(content)
    except orjson.JSONDecodeError as error:
        raise ExpertProtocolError(expert_id, f"sent {_what(content)}: {error}") from error
    if not isinstance(data, dict):
        raise ExpertProtocolError(expert_id, "sent JSON that is no object")
    if (failure := failure_in_answer(expert_id, data)) is not None:
        raise failure
    try:
        said = list(read(data))
    except (TypeError, ValueError, AttributeError) as error:
        raise ExpertProtocolError(expert_id, "sent JSON that is no chat completion") from error
    events = [event for event in said if isinstance(event, Usage) or event.choice < choices]
    begun = {event.choice for event in events if isinstance(event, Delta)}
    finished: set[int] = set()
    told: list[Event] = []
    for event in events:
        if isinstance(event, Usage) or event.choice not in finished:
            told.append(event)
        if isinstance(event, Finish):
            finished.add(event.choice)
        elif isinstance(event, Delta):
            _check_calls(expert_id, event)
    if not finished or not begun <= finished:
        raise ExpertProtocolError(expert_id, "the answer has no finished choice")
    return told


def _what(content: bytes) -> str:
    """What a body is that is no JSON."""
    start = content[:64].lstrip()
    if not start:
        return "an empty answer"
    return "a web page" if start.startswith(b"<") else "broken JSON"
