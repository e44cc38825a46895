"""Heads of answers, written as bytes. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus

_WHOLE = b"HTTP/1.1 200 OK\r\n%bcontent-length: %d\r\ncontent-type: application/json\r\n%b\r\n%b"
_STREAM = (
    b"HTTP/1.1 200 OK\r\n%bcontent-type: text/event-stream; charset=utf-8\r\n"
    # Caches and proxies such as nginx would hold a stream back without these two.
    b"cache-control: no-cache\r\nx-accel-buffering: no\r\ntransfer-encoding: chunked\r\n%b\r\n"
)
_ERROR = (
    b"HTTP/1.1 %d %b\r\n%bcontent-length: %d\r\ncontent-type: application/json\r\n"
    b"connection: close\r\n%b\r\n%b"
)
LAST_CHUNK = b"0\r\n\r\n"


def whole_answer(defaults: Iterable[tuple[bytes, bytes]], headers: str, body: bytes) -> bytes:
    """An answer whose body is at hand; `headers` as `lines` makes them."""
    return _WHOLE % (raw_lines(defaults), len(body), headers.encode("latin-1"), body)


def stream_head(defaults: Iterable[tuple[bytes, bytes]], headers: str) -> bytes:
    """The head of a streamed answer."""
    return _STREAM % (raw_lines(defaults), headers.encode("latin-1"))


def error(defaults: Iterable[tuple[bytes, bytes]], status: int, headers: str, body: bytes) -> bytes:
    """An error in place of an answer; the connection closes behind it."""
    phrase = HTTPStatus(status).phrase.encode()
    return _ERROR % (
        status,
        phrase,
        raw_lines(default for default in defaults if default[0] != b"connection"),
        len(body),
        headers.encode("latin-1"),
        body,
    )


def chunk(data: bytes) -> bytes:
    """A piece of a streamed answer; never empty, for an empty one is the last."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def lines(headers: Mapping[str, str]) -> str:
    """Header lines. Raises ValueError for a value that would end its line."""
    text = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if text.count("\n") != len(headers) or text.count("\r") != len(headers):
        raise ValueError("a header holds a line end")
    return text


def raw_lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Header lines of headers that are bytes."""
    return b"".join([b"%b: %b\r\n" % header for header in headers])
