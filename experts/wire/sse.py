"""Server-sent events, read tolerantly. Pure: bytes in, payloads out."""

from __future__ import annotations

import orjson

DONE = b"[DONE]"
MAX_EVENT_BYTES = 8 * 1024 * 1024
BOM = b"\xef\xbb\xbf"
_MOST_LINES = 64
"""An event of more ends at a blank line only: whether it is whole is asked with every line."""


class EventTooLongError(ValueError):
    """One event is longer than allowed."""


class SseDecoder:
    """Collects `data:` lines into the payloads of events, however the bytes are cut up.

    Lines may end in LF, CRLF or CR; comments, other fields and anything that is no field are passed
    over. Providers forget blank lines, so an event of a few lines also ends where its data is a
    whole JSON value, and one that the stream ends with still counts.

    Args:
        max_bytes: Longest event; `feed` raises EventTooLongError beyond it.
    """

    __slots__ = ("_after_cr", "_begun", "_data", "_max_bytes", "_open", "_open_size", "_size")

    def __init__(self, max_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_bytes = max_bytes
        self._open: list[bytes] = []
        """Pieces of the line that has not ended yet."""
        self._data: list[bytes] = []
        """Data lines of the event that has not ended yet."""
        self._open_size = self._size = 0
        """Bytes of both, `data:` included."""
        self._after_cr = False
        self._begun = False

    @property
    def idle(self) -> bool:
        """Whether the next byte begins an event, behind plain line ends."""
        return self._begun and not (self._open or self._data or self._after_cr)

    def feed(self, chunk: bytes) -> list[bytes]:
        """The payloads of the events that `chunk` completes, `[DONE]` among them."""
        if self._after_cr or b"\r" in chunk:
            chunk = self._with_plain_ends(chunk)
        if b"\n" not in chunk:
            self._open.append(chunk)
            self._open_size += len(chunk)
            self._check_size()
            return []
        if self._open:
            chunk = b"".join((*self._open, chunk))
            self._open = []
        *lines, rest = chunk.split(b"\n")
        found: list[bytes] = []
        for line in lines:
            self._line(line, found)
        # Where blank lines are missing, nothing would come of waiting for one.
        if self._data and _whole(self._data):
            self._end_event(found)
        if rest:
            self._open.append(rest)
        self._open_size = len(rest)
        self._check_size()
        return found

    def finish(self) -> list[bytes]:
        """What was still open when the stream ended."""
        found: list[bytes] = []
        self._line(b"".join(self._open), found)
        self._line(b"", found)
        self._open = []
        return found

    def _with_plain_ends(self, chunk: bytes) -> bytes:
        if self._after_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]
            self._after_cr = False
        if chunk:
            self._after_cr = chunk.endswith(b"\r")
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _line(self, line: bytes, found: list[bytes]) -> None:
        if not self._begun:
            self._begun = True
            line = line.removeprefix(BOM)
        if line.startswith(b"data:"):
            if self._data and _whole(self._data):
                self._end_event(found)
            self._data.append(line[5:].removeprefix(b" "))
            self._size += len(line)
        elif self._data and not line.strip():
            self._end_event(found)

    def _end_event(self, found: list[bytes]) -> None:
        payload = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
        self._data = []
        self._size = 0
        if payload.strip():
            found.append(payload)

    def _check_size(self) -> None:
        if self._size + self._open_size > self._max_bytes:
            raise EventTooLongError(f"an event is longer than {self._max_bytes} bytes")


def is_stream(content_type: str, beginning: bytes) -> bool:
    """Whether a body is a stream of events, by how it begins, and by what it is said to be if not.

    Servers and the proxies before them send streams as text or JSON, and errors as streams.
    """
    start = beginning[:16].removeprefix(BOM).lstrip()
    if start.startswith((b"{", b"[")):
        return False
    if start.startswith((b"data:", b"event:", b"id:", b"retry:", b":")):
        return True
    return "text/event-stream" in content_type


def _whole(data: list[bytes]) -> bool:
    if len(data) > _MOST_LINES:
        return False
    payload = b"\n".join(data)
    if payload.strip() == DONE:
        return True
    try:
        orjson.loads(payload)
    except orjson.JSONDecodeError:
        return False
    return True
