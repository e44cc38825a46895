"""The one field of an answer that is ours: `model`, put into the provider's own bytes. Pure."""

from __future__ import annotations

import orjson

from experts.messages import Json

_KEY = b'"model"'


class ModelName:
    """Names the expert in one provider's answers; every other byte stays as it came.

    Inside a JSON string a quote is always escaped, so the bytes of a key with its quotes can only
    be a key. Where it occurs twice, the answer is written anew instead.

    Args:
        expert_id: The name to put in.
    """

    __slots__ = ("_expert_id", "_new", "_old", "_theirs")

    def __init__(self, expert_id: str) -> None:
        self._expert_id = expert_id
        self._theirs: str | None = None
        self._old: tuple[bytes, ...] = ()
        self._new = b'"model":' + orjson.dumps(expert_id)

    def put(self, raw: bytes, data: Json) -> bytes:
        """`raw`, which says `data`, with our name in it."""
        theirs = data.get("model")
        if theirs == self._expert_id:
            return raw
        if isinstance(theirs, str) and raw.count(_KEY) == 1:
            if theirs != self._theirs:
                name = orjson.dumps(theirs)
                self._theirs, self._old = theirs, (b'"model":' + name, b'"model": ' + name)
            for old in self._old:
                if old in raw:
                    return raw.replace(old, self._new)
        return orjson.dumps({**data, "model": self._expert_id})
