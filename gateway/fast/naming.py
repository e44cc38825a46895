"""The one field of an answer that is ours: `model`, put into the provider's own bytes. Pure."""

from __future__ import annotations

import orjson

from experts.messages import Json

_BACKSLASH = 0x5C


class ModelName:
    """Names the expert in one provider's answers; every other byte stays as it came.

    Inside a JSON string a quote is always escaped, so the bytes of a key with its quotes can only
    be a key. Where it is not certainly the answer's own, the answer is written anew instead.

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
        """`raw`, which says `data`, with our name in it.

        Raises:
            orjson.JSONEncodeError: It has to be written anew, and is nested too deep for that.
        """
        theirs = data.get("model")
        if theirs == self._expert_id:
            return raw
        if theirs != self._theirs and isinstance(theirs, str):
            name = orjson.dumps(theirs)
            self._theirs, self._old = theirs, (b'"model":' + name, b'"model": ' + name)
        for old in self._old if theirs == self._theirs else ():
            at = raw.find(old)
            if at > 0 and _is_own(raw, at):
                if old is not self._old[0]:
                    # It is written in the same way each time.
                    self._old = self._old[::-1]
                return raw[:at] + self._new + raw[at + len(old) :]
        return orjson.dumps({**data, "model": self._expert_id})


def _is_own(raw: bytes, at: int) -> bool:
    """Whether a key there certainly is one of the whole answer, not of something within it."""
    alone = raw.count(b"{", 0, at) == 1 and raw.find(b"[", 0, at) < 0
    return alone and raw[at - 1] != _BACKSLASH
