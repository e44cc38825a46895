"""Characters that a provider cut in half.

JSON writes a character beyond 65,535 as two escapes, and UTF-8 all but ASCII's as several bytes.
Servers that count so cut them between two chunks or at the length limit, and each part by itself is
no text.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from experts.wire.depth import load_json
from experts.wire.sse import BOM

_ESCAPE = re.compile(
    rb"""\\\\                                                       # a backslash, escaped
       | \\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}  # both halves
       | (?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{2})""",
    re.VERBOSE,
)
_UNKNOWN = rb"\ufffd"


def without_halves(text: bytes) -> bytes:
    """JSON with the sign for an unknown character in place of every part of one."""
    escaped = _ESCAPE.sub(lambda found: _UNKNOWN if found["half"] else found[0], text)
    return escaped.decode("utf-8", "replace").encode()


def load_answer(text: bytes) -> Any:
    """What a provider's JSON says, parts of characters and a byte order mark aside.

    Raises:
        orjson.JSONDecodeError: See `load_json`.
    """
    try:
        return load_json(text)
    except orjson.JSONDecodeError:
        mended = without_halves(text).removeprefix(BOM)
        if mended == text:
            raise
        return load_json(mended)
