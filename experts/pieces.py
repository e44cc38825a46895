"""JSON that comes in pieces, put together. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

Json = Mapping[str, Any]
_NAMING = ("id", "type", "index")
"""Fields that name a thing: said twice they are the same, not longer."""


def whole_calls(pieces: Iterable[Json]) -> tuple[Json, ...]:
    """Tool calls in OpenAI's non-streaming shape from pieces in its streaming shape."""
    calls: dict[int, _Call] = {}
    for piece in pieces:
        index = piece.get("index")
        calls.setdefault(len(calls) if index is None else int(index), _Call()).add(piece)
    return tuple(call.whole() for _, call in sorted(calls.items()))


def is_whole_json(pieces: Iterable[str]) -> bool:
    """Whether they are JSON to its end."""
    try:
        orjson.loads("".join(pieces))
    except orjson.JSONDecodeError:
        return False
    return True


class _Call:
    """One call: the objects in it (`function`, `custom`) hold strings that come in pieces."""

    def __init__(self) -> None:
        self._call: dict[str, Any] = {"type": "function"}
        self._strings: dict[tuple[str, str], list[str]] = {}

    def add(self, piece: Json) -> None:
        for name, value in piece.items():
            if name in ("function", "custom") and isinstance(value, Mapping):
                for part, text in value.items():
                    self._strings.setdefault((name, part), []).append(text or "")
            elif name != "index" and value:
                self._call[name] = value

    def whole(self) -> Json:
        call = dict(self._call)
        for (name, part), texts in self._strings.items():
            call[name] = {**call.get(name, {}), part: "".join(texts)}
        return call


def whole_fields(pieces: Iterable[Json]) -> dict[str, Any]:
    """Texts and lists are added to, objects field by field, anything else replaces the old."""
    fields: dict[str, Any] = {}
    for piece in pieces:
        for name, value in piece.items():
            fields[name] = _joined(fields.get(name), value)
    return fields


def _joined(old: Any, new: Any) -> Any:
    if isinstance(old, str) and isinstance(new, str):
        return old + new
    if isinstance(old, list) and isinstance(new, list):
        return [*old, *new]
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        joined = {n: v if n in _NAMING else _joined(old.get(n), v) for n, v in new.items()}
        return {**old, **joined}
    return old if new is None else new


def whole_logprobs(pieces: Iterable[Json]) -> dict[str, Any] | None:
    """Lists of tokens go on; of anything else the first is kept."""
    found: dict[str, Any] | None = None
    for piece in pieces:
        found = {} if found is None else found
        for name, tokens in piece.items():
            known = found.get(name)
            if isinstance(tokens, list) and isinstance(known, list):
                known.extend(tokens)
            elif isinstance(tokens, list):
                found[name] = list(tokens)
            else:
                found.setdefault(name, tokens)
    return found
