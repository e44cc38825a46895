"""HTTP heads that were parsed before, so that those like them need not be again. Pure.

Clients and servers repeat themselves: their heads are the same bytes but for the length of the
body. What the parser made of the first holds for all of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,9})[ \t]*\r\n", re.IGNORECASE)
_END = b"\r\n\r\n"
_MOST_BYTES = 4096


class KnownHead:
    """A head that was parsed.

    Args:
        before: Its bytes up to the digits of its length.
        after: Those behind them, up to the body.

    Attributes:
        raw: Its headers as they came, names in lower case.
        headers: The same as text; the first of several that share a name.
    """

    __slots__ = ("_form", "_size", "headers", "raw")

    def __init__(
        self,
        before: bytes,
        after: bytes,
        raw: Sequence[tuple[bytes, bytes]],
        headers: Mapping[str, str],
    ) -> None:
        self._size = len(before) + len(after)
        self._form = before.replace(b"%", b"%%") + b"%d" + after.replace(b"%", b"%%")
        self.raw = raw
        self.headers = headers

    def body_of(self, data: bytes, most: int) -> bytes | None:
        """The body of a whole message with this head, at most so long; None if it is none."""
        rest = len(data) - self._size
        # Those digits are as many as the rest's, or one fewer.
        length = rest - len(str(rest))
        head = self._form % length
        if len(head) + length < len(data):
            length += 1
            head = self._form % length
        if data.startswith(head) and len(head) + length == len(data) and length <= most:
            return data[len(head) :]
        return None


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
