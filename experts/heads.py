"""HTTP heads that were parsed before, so that those like them need not be again. Pure.

Clients and servers repeat themselves: their heads are the same bytes but for the length of the
body. What the parser made of the first holds for all of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,9})[ \t]*\r\n", re.IGNORECASE)
_END = b"\r\n\r\n"
_MOST_BYTES = 4096


class KnownHead(NamedTuple):
    """A head that was parsed.

    Attributes:
        before: Its bytes up to the digits of its length.
        after: Those behind them, up to the body.
        raw: Its headers as they came, names in lower case.
        headers: The same as text; the first of several that share a name.
    """

    before: bytes
    after: bytes
    raw: Sequence[tuple[bytes, bytes]]
    headers: Mapping[str, str]

    def body_of(self, data: bytes, most: int) -> bytes | None:
        """The body of a whole message with this head, at most so long; None if it is none."""
        if not data.startswith(self.before):
            return None
        at, after = len(self.before), self.after
        stop = data.find(b"\r", at, at + 10)
        start = stop + len(after)
        length = len(data) - start
        # Any other way to write the same number is for the parser.
        if length > most or data[at:stop] != b"%d" % length or not data.startswith(after, stop):
            return None
        return data[start:]


def template_of(
    data: bytes, raw: Sequence[tuple[bytes, bytes]], headers: Mapping[str, str]
) -> KnownHead | None:
    """What there is to remember of a message that came in one piece.

    Args:
        data: The message.
        raw: Its headers as the parser read them.
        headers: The same as text.
    """
    end = data.find(_END) + len(_END)
    match = _LENGTH.search(data, 0, end)
    if match is None or end > _MOST_BYTES or int(match[1]) != len(data) - end:
        return None
    if sum(name == b"content-length" for name, _ in raw) != 1:
        return None
    return KnownHead(data[: match.start(1)], data[match.end(1) : end], raw, headers)
