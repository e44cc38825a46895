"""Tool calls as providers stream them, brought into the one shape that clients can rely on.

OpenAI gives every piece the `index` of its call, and id and name to the first piece only. Others
leave the index out or say 0 for every call, repeat id and name in each piece, forget the id, or
send arguments as an object. What leaves here is always OpenAI's shape.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from experts.messages import Json
from experts.pieces import is_whole_json
from experts.wire.shapes import word_of

_OWN = ("index", "id", "type", "function", "custom")
_OF_CLIENTS = (None, "function", "custom")
"""Types of calls that a client is to make; of any other type it is told what was called."""


def is_nameless(piece: Json) -> bool:
    """Whether a client's call begins with `piece`, and nobody says of which tool."""
    if piece.get("type") not in ("function", "custom"):
        return False
    said = piece.get("function") or piece.get("custom") or {}
    return not said.get("name")


class ToolCallPieces:
    """Puts the pieces of one answer's tool calls in order. Keeps every argument it has seen.

    A call is told from its name on: who reads it can't begin it before.
    """

    def __init__(self) -> None:
        self._calls: list[_OpenCall] = []
        self._by_index: dict[int, _OpenCall] = {}
        self._last: _OpenCall | None = None
        self._told = 0

    def __bool__(self) -> bool:
        return self._told > 0

    def ordered(self, pieces: Iterable[Any]) -> Iterator[Json]:
        """The same pieces, each with its call's `index`; what was said before is left out."""
        for piece in pieces:
            if isinstance(piece, dict):
                yield from self._ordered(piece)

    def nameless(self) -> Iterator[Json]:
        """What was said of calls whose name never came."""
        for call in self._calls:
            if call.index is None and call.says_something:
                yield self._begun(call)

    def _ordered(self, piece: dict[str, Any]) -> Iterator[Json]:
        kind = "custom" if isinstance(piece.get("custom"), dict) else "function"
        said = piece.get(kind) or {}
        body = {name: _text(value) for name, value in said.items()}
        if not isinstance(said.get("name"), str):
            body.pop("name", None)
        others = {name: piece[name] for name in piece if name not in _OWN}
        call = self._last = self._belongs_to(piece, body) or self._begin(piece)
        fresh = call.fresh(body)
        if call.index is None:
            call.keep(piece, kind, body, others)
            if call.name or call.type not in _OF_CLIENTS:
                yield self._begun(call)
        elif others or any(fresh.values()):
            yield {**others, "index": call.index, kind: fresh}

    def _belongs_to(self, piece: dict[str, Any], body: dict[str, str]) -> _OpenCall | None:
        """The open call that `piece` goes on with, or None when it begins one."""
        open_call, call_id = self._last, word_of(piece, "id")
        if _is_index(piece.get("index")):
            open_call = self._by_index.get(piece["index"])
            if open_call is None and not (call_id or body.get("name")):
                # Nobody begins a call with neither; it would be none that a client could make.
                return self._last
        elif call_id:
            same = (call for call in self._calls if call.id == call_id)
            open_call = next(same, open_call)
        if open_call is None or not body.get("name"):
            return open_call
        if call_id and open_call.id:
            return open_call if call_id == open_call.id else None
        if not open_call.name:
            return open_call
        goes_on = body["name"] == open_call.name and not open_call.is_whole()
        return open_call if goes_on and not call_id else None

    def _begin(self, piece: dict[str, Any]) -> _OpenCall:
        call = _OpenCall()
        self._calls.append(call)
        if _is_index(piece.get("index")):
            self._by_index[piece["index"]] = call
        return call

    def _begun(self, call: _OpenCall) -> Json:
        call.index, self._told = self._told, self._told + 1
        return call.whole()


class _OpenCall:
    """A call while it is written.

    Attributes:
        index: Its number among those that were told; None: it is not told yet.
        id, type: As the provider says them, if it does.
        name: As far as it is known.
    """

    def __init__(self) -> None:
        self.index: int | None = None
        self.id: str | None = None
        self.type: str | None = None
        self.name = ""
        self._kind = "function"
        self._body: dict[str, str] = {}
        self._others: dict[str, Any] = {}
        self._written: list[str] = []

    def fresh(self, body: dict[str, str]) -> dict[str, str]:
        """`body` without a name that is known already."""
        fresh = dict(body)
        if body.get("name"):
            if body["name"] == self.name:
                del fresh["name"]
            else:
                self.name += body["name"]
        self._written.extend(body.get(part, "") for part in ("arguments", "input"))
        return fresh

    def keep(
        self, piece: dict[str, Any], kind: str, body: dict[str, str], others: dict[str, Any]
    ) -> None:
        """Remember what is said of a call that is not told yet."""
        self.id = self.id or word_of(piece, "id")
        self.type = self.type or word_of(piece, "type")
        self._kind = kind if body else self._kind
        self._body |= body
        self._others |= others

    def whole(self) -> Json:
        """All of it so far, as one piece."""
        written = "arguments" if self._kind == "function" else "input"
        body = {**self._body, "name": self.name, written: "".join(self._written)}
        call_id = self.id or f"call_{uuid.uuid4().hex}"
        named = {"id": call_id, "type": self.type or self._kind}
        return {**self._others, "index": self.index, **named, self._kind: body}

    @property
    def says_something(self) -> bool:
        return bool(self.id) or any(self._written)

    def is_whole(self) -> bool:
        """Whether what was written so far is JSON to its end."""
        return is_whole_json(self._written)


def _is_index(value: Any) -> bool:
    return type(value) is int


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else orjson.dumps(value).decode()
