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


class ToolCallPieces:
    """Puts the pieces of one answer's tool calls in order. Keeps every argument it has seen."""

    def __init__(self) -> None:
        self._calls: list[_OpenCall] = []
        self._by_index: dict[int, _OpenCall] = {}
        self._last: _OpenCall | None = None

    def __bool__(self) -> bool:
        return bool(self._calls)

    def ordered(self, pieces: Iterable[Any]) -> Iterator[Json]:
        """The same pieces, each with its call's `index`; what was said before is left out."""
        for piece in pieces:
            if isinstance(piece, dict):
                yield from self._ordered(piece)

    def _ordered(self, piece: dict[str, Any]) -> Iterator[Json]:
        kind = "custom" if isinstance(piece.get("custom"), dict) else "function"
        said = piece.get(kind) or {}
        body = {name: _text(value) for name, value in said.items()}
        if not isinstance(said.get("name"), str):
            body.pop("name", None)
        others = {name: piece[name] for name in piece if name not in _OWN}
        call = self._belongs_to(piece, body)
        if call is None:
            call = self._begin(piece)
            first = {"id": call.id, "type": word_of(piece, "type") or kind}
            body.setdefault("name", "")
            body.setdefault("arguments" if kind == "function" else "input", "")
            yield {**others, "index": call.index, **first, kind: call.fresh(body)}
            return
        self._last = call
        fresh = call.fresh(body)
        if others or any(fresh.values()):
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
        if call_id:
            return open_call if call_id == open_call.id else None
        goes_on = body["name"] == open_call.name and not open_call.is_whole()
        return open_call if goes_on else None

    def _begin(self, piece: dict[str, Any]) -> _OpenCall:
        call_id = word_of(piece, "id") or f"call_{uuid.uuid4().hex}"
        call = _OpenCall(len(self._calls), call_id)
        self._calls.append(call)
        self._last = call
        if _is_index(piece.get("index")):
            self._by_index[piece["index"]] = call
        return call


class _OpenCall:
    def __init__(self, index: int, call_id: str) -> None:
        self.index = index
        self.id = call_id
        self.name = ""
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

    def is_whole(self) -> bool:
        """Whether what was written so far is JSON to its end."""
        return is_whole_json(self._written)


def _is_index(value: Any) -> bool:
    return type(value) is int


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else orjson.dumps(value).decode()
