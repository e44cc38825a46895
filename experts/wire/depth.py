"""JSON that was read must also be writable: what is nested too deep for that is refused at once."""

from __future__ import annotations

from typing import Any

import orjson

TOO_DEEP = "nested too deep"
_FEW = 200
_WRAPPED = 16
"""Levels that we put around what we read when we write it again."""


def load_json(text: bytes | str) -> Any:
    """What `text` says.

    Raises:
        orjson.JSONDecodeError: It is no JSON, or nested deeper than some 230 levels; orjson reads
            1,024 of them but writes 254.
    """
    data = orjson.loads(text)
    check_depth(text, data)
    return data


def check_depth(text: bytes | str, data: Any) -> None:
    """The same of a `text` that was read already, and says `data`.

    Raises:
        orjson.JSONDecodeError: See `load_json`.
    """
    if _opened(text) > _FEW and not _writable(data):
        raise orjson.JSONDecodeError(TOO_DEEP, "", 0)


def _opened(text: bytes | str) -> int:
    if isinstance(text, str):
        return text.count("[") + text.count("{")
    return text.count(b"[") + text.count(b"{")


def _writable(data: Any) -> bool:
    for _ in range(_WRAPPED):
        data = [data]
    try:
        orjson.dumps(data)
    except TypeError:
        return False
    return True
