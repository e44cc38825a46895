"""One guard over texts: the strings of a request, and the streams of an answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from experts.messages import ChatRequest, Message, Source
from gateway.guards.base import BlockedError, Memory, Record
from gateway.guards.finder import Finder, Piece, Scan
from gateway.guards.sources import beyond_message, beyond_request
from gateway.settings.guards import Action

T = TypeVar("T")
_BINARY = frozenset({"image_url", "input_audio", "file", "image", "audio", "document", "source"})
_WRITTEN = ("text", "content")
"""Sources of documents that are texts."""
# They are told apart by equality or verified by their maker: nobody reads them.
_OPAQUE = frozenset(
    {
        *("id", "type", "role", "tool_call_id"),
        *("signature", "data", "encrypted_content", "encrypted_index"),
    }
)


class Eye:
    """One guard at work on one side of one request.

    Args:
        finder: What it looks for.
        action: What happens to what is found.
        memory: Gives placeholders.
        record: Where finds are counted.
    """

    def __init__(self, finder: Finder, action: Action, memory: Memory, record: Record) -> None:
        self.acts = self.changes = action != "flag"
        self._finder = finder
        self._action = action
        self._memory = memory
        self._record = record

    def read(self, text: str) -> str:
        """A whole text as it may pass; the same object if nothing was found.

        Raises:
            BlockedError: It may not pass.
        """
        pieces = list(self._finder.pieces(text))
        return text if pieces == [text] else self.join(pieces)

    def scan(self) -> Scan:
        """For a new text that comes in pieces."""
        return Scan(self._finder)

    def join(self, pieces: Iterable[Piece]) -> str:
        """Text and finds as they may pass.

        Raises:
            BlockedError: They may not.
        """
        out: list[str] = []
        for piece in pieces:
            if isinstance(piece, str):
                out.append(piece)
                continue
            self._record.found[piece.name] += 1
            if self._action == "block":
                raise BlockedError("".join(out))
            out.append(piece.text if self._action == "flag" else self._memory.placeholder(piece))
        return "".join(out)


class Restorer:
    """Puts back what placeholders stand for; has the shape of an `Eye`."""

    acts, changes = False, True

    def __init__(self, finder: Finder, originals: Mapping[str, str]) -> None:
        self._finder = finder
        self._originals = originals

    def read(self, text: str) -> str:
        return self.join(self._finder.pieces(text))

    def scan(self) -> Scan:
        return Scan(self._finder)

    def join(self, pieces: Iterable[Piece]) -> str:
        texts = (each if isinstance(each, str) else each.text for each in pieces)
        return "".join(self._originals.get(text, text) for text in texts)


def read_request(request: ChatRequest, read: Callable[[str], str]) -> ChatRequest:
    """A request with every text of it read: messages, tool calls, results, parameters.

    Values in which nothing changed stay the same objects. Images, audio and files are not read.
    """
    messages = _each(request.messages, lambda message: _message(message, read))
    # `user` and `metadata` may have any name in them.
    params = strings(request.params, read, frozenset({"type"}))
    raw = strings(request.raw, read)
    source = _source(request.source, beyond_request(request.source), read)
    if (
        messages is request.messages
        and params is request.params
        and raw is request.raw
        and source is request.source
    ):
        return request
    return replace(request, messages=messages, params=params, raw=raw, source=source)


def _message(message: Message, read: Callable[[str], str]) -> Message:
    content, fields = strings(message.content, read), strings(message.fields, read)
    source = _source(message.source, beyond_message(message.source), read)
    if content is message.content and fields is message.fields and source is message.source:
        return message
    return replace(message, content=content, fields=fields, source=source)


def _source(source: Source | None, beyond: list[Any], read: Callable[[str], str]) -> Source | None:
    """None where something is found in what it alone says: nobody gets that to see then."""
    return source if strings(beyond, read) is beyond else None


def strings(value: Any, read: Callable[[str], str], opaque: frozenset[str] = _OPAQUE) -> Any:
    """JSON with `read` applied to its texts; the same object if nothing changed."""
    if isinstance(value, str):
        return read(value)
    if isinstance(value, Mapping):
        if _is_binary(value):
            return value
        if value.get("type") == "text":
            opaque = opaque - {"data"}
        changed = {
            name: new
            for name, old in value.items()
            if (name not in opaque or isinstance(old, Mapping))
            and (new := strings(old, read, opaque)) is not old
        }
        return {**value, **changed} if changed else value
    if isinstance(value, list | tuple):
        return _each(value, lambda each: strings(each, read, opaque))
    return value


def _is_binary(value: Mapping[str, Any]) -> bool:
    # In a schema it may be anything, the list of several types or what is said of a field `type`.
    kind, source = value.get("type"), value.get("source")
    if not isinstance(kind, str) or kind not in _BINARY:
        return False
    return not (isinstance(source, Mapping) and source.get("type") in _WRITTEN)


def _each(values: Any, change: Callable[[T], T]) -> Any:
    changed = [change(each) for each in values]
    same = all(new is old for new, old in zip(changed, values, strict=True))
    return values if same else type(values)(changed)
