"""One guard over the events of an answer, holding back as little of its texts as it can."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from experts.messages import Delta, Event, Finish, Json, Usage
from gateway.guards.base import BlockedError
from gateway.guards.finder import Piece, Scan
from gateway.guards.texts import strings

FILTERED = "content_filter"


class Reader(Protocol):
    """What reads texts: see `gateway.guards.texts.Eye`."""

    @property
    def acts(self) -> bool:
        """Whether it keeps things from being seen."""
        ...

    @property
    def changes(self) -> bool:
        """Whether what passes may differ from what came."""
        ...

    def read(self, text: str) -> str: ...
    def scan(self) -> Scan: ...
    def join(self, pieces: Iterable[Piece]) -> str: ...


class StoppedError(Exception):
    """The answer may not go on.

    Attributes:
        last: The events that still may pass, the ends of all choices included.
    """

    def __init__(self, last: list[Event]) -> None:
        super().__init__("stopped")
        self.last = last


Which = tuple[str, Any]
"""One text of a choice: its answer, its thought, a refusal, or what is written to one tool."""
_WRITTEN = {"function": "arguments", "custom": "input"}
"""Where a call of each kind has the text that is written to its tool."""


class FailedError(Exception):
    """The guard failed.

    Attributes:
        unread: What it had of the answer and has not passed on, as it came.
    """

    def __init__(self, unread: list[Event]) -> None:
        super().__init__("failed")
        self.unread = unread


@dataclass(slots=True)
class EventGuard:
    """Reads the texts of an answer as they pass.

    A choice writes one text at a time: when another one begins, the one before is over.
    """

    reader: Reader
    _open: dict[int, tuple[Which, Scan] | None] = field(default_factory=dict)
    _reading: str = ""

    def write(self, event: Event) -> list[Event]:
        """What may pass now.

        Raises:
            StoppedError: Something was found that ends the answer.
            FailedError: The reader failed.
        """
        if isinstance(event, Usage):
            return [event]
        self._open.setdefault(event.choice, None)
        parts = _parts(event)
        out: list[Event] = []
        for part in parts:
            try:
                out.extend(self._part(part))
            except BlockedError as error:
                raise StoppedError([*out, *self._stop(part, error.before)]) from None
            except Exception as error:
                unread: list[Event] = [*out, *self._unread(part), *parts]
                raise FailedError(unread if self.reader.changes else [event]) from error
        return out if self.reader.changes else [event]

    def _part(self, part: Delta | Finish) -> Iterator[Event]:
        if isinstance(part, Delta):
            yield from self._delta(part)
            return
        yield from self._close(part.choice)
        del self._open[part.choice]
        yield part

    def _unread(self, failed: Delta | Finish) -> Iterator[Event]:
        """All that is held, and the part that was being read."""
        now = self._open.pop(failed.choice)
        begun = now is not None and isinstance(failed, Delta) and _text_of(failed)[0] == now[0]
        if begun and isinstance(failed, Delta) and failed.tool_calls:
            yield _with_text(failed, self._reading)
        elif now is not None and self._reading:
            yield _said(failed.choice, now[0], self._reading)
        if not begun:
            yield failed
        for choice, other in self._open.items():
            if other is not None and other[1].held:
                yield _said(choice, other[0], other[1].held)

    def _delta(self, delta: Delta) -> Iterator[Event]:
        if delta == Delta(choice=delta.choice):
            yield delta
            return
        which, text = _text_of(delta)
        if which is None:
            if delta.opaque or "thinking_blocks" in delta.fields:
                # A new block, or the signature of the thought: what was being written is over.
                yield from self._close(delta.choice)
            if (others := self._others(delta)) != Delta(choice=delta.choice):
                yield others
            return
        now = self._open[delta.choice]
        if now is None or now[0] != which:
            yield from self._close(delta.choice)
            now = self._open[delta.choice] = which, self.reader.scan()
        self._reading = now[1].held + text
        passed = self.reader.join(now[1].feed(text))
        if passed or _names_a_call(delta):
            yield _with_text(delta, passed)

    def _close(self, choice: int) -> Iterator[Event]:
        now = self._open.get(choice)
        if now is not None:
            self._reading = now[1].held
            rest = self.reader.join(now[1].feed("", final=True))
            self._open[choice] = None
            if rest:
                yield _said(choice, now[0], rest)

    def _others(self, delta: Delta) -> Delta:
        """What is no stream of text is read piece by piece."""
        read = self.reader.read
        # They repeat the answer token by token.
        logprobs = None if self.reader.acts else delta.logprobs
        try:
            fields, opaque = strings(delta.fields, read), strings(delta.opaque, read)
        except BlockedError:
            # What is before it is no part of the text that may be open.
            raise BlockedError("") from None
        return replace(delta, fields=fields, opaque=opaque, logprobs=logprobs)

    def _stop(self, blocked: Delta | Finish, before: str) -> Iterator[Event]:
        now = self._open.get(blocked.choice)
        # Else it was found at the end of what was written before, and this was not to follow.
        begun = now is not None and isinstance(blocked, Delta) and _text_of(blocked)[0] == now[0]
        if begun and isinstance(blocked, Delta) and _names_a_call(blocked):
            yield _with_text(blocked, before)
        elif now is not None and before:
            yield _said(blocked.choice, now[0], before)
        yield from (Finish(FILTERED, choice) for choice in sorted(self._open))


def _parts(delta: Delta | Finish) -> Iterator[Delta | Finish]:
    """A piece in simple ones, in the order in which they are written."""
    if isinstance(delta, Finish) or delta == Delta(delta.text, delta.choice):
        yield delta
        return
    choice, fields = delta.choice, dict(delta.fields)
    refusal = fields.pop("refusal") if _refuses(fields) else ""
    if delta.reasoning:
        yield Delta(choice=choice, reasoning=delta.reasoning)
    if fields or delta.opaque or delta.logprobs:
        yield replace(delta, text="", reasoning="", tool_calls=(), fields=fields)
    if delta.text:
        yield Delta(delta.text, choice)
    if refusal:
        yield Delta(choice=choice, fields={"refusal": refusal})
    yield from (Delta(choice=choice, tool_calls=(call,)) for call in delta.tool_calls)


def _text_of(delta: Delta) -> tuple[Which | None, str]:
    """Which text a simple piece belongs to, None for none, and what it adds."""
    if delta.tool_calls:
        call = delta.tool_calls[0]
        kind = _kind_of(call)
        text = (call.get(kind) or {}).get(_WRITTEN[kind])
        return (kind, call.get("index")), text if isinstance(text, str) else ""
    if delta.reasoning:
        return ("reasoning", None), delta.reasoning
    if _refuses(delta.fields):
        return ("refusal", None), delta.fields["refusal"]
    if delta.fields or delta.opaque or delta.logprobs:
        return None, ""
    return ("text", None), delta.text


def _refuses(fields: Json) -> bool:
    return bool(fields.get("refusal")) and isinstance(fields["refusal"], str)


def _kind_of(call: Json) -> str:
    return "custom" if isinstance(call.get("custom"), Mapping) else "function"


def _names_a_call(delta: Delta) -> bool:
    # The piece that names a tool call must not wait for its arguments.
    return any(map(_names, delta.tool_calls))


def _names(call: Json) -> bool:
    kind = _kind_of(call)
    said = call.get(kind) or {}
    return bool(set(call) - {"index", kind}) or any(said[n] for n in said if n != _WRITTEN[kind])


def _with_text(delta: Delta, text: str) -> Delta:
    if delta.tool_calls:
        call = delta.tool_calls[0]
        kind = _kind_of(call)
        said = {**(call.get(kind) or {}), _WRITTEN[kind]: text}
        return replace(delta, tool_calls=({**call, kind: said},))
    if delta.fields:
        return replace(delta, fields={"refusal": text})
    return replace(delta, reasoning=text) if delta.reasoning else replace(delta, text=text)


def _said(choice: int, which: Which, text: str) -> Delta:
    kind, index = which
    if kind in _WRITTEN:
        call = {"index": index, kind: {_WRITTEN[kind]: text}}
        return Delta(choice=choice, tool_calls=(call,))
    if kind == "refusal":
        return Delta(choice=choice, fields={"refusal": text})
    return Delta(choice=choice, reasoning=text) if kind == "reasoning" else Delta(text, choice)
