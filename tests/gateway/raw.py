"""Byte by byte clients: what no HTTP library would send."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import orjson

CHAT = "/v1/chat/completions"


def chat(**fields: Any) -> bytes:
    return orjson.dumps({"model": "a", "messages": [{"role": "user", "content": "Hi"}], **fields})


def post(body: bytes, *headers: str, path: str = CHAT) -> bytes:
    """A whole request."""
    return head(*headers, f"content-length: {len(body)}", path=path) + body


def head(*headers: str, method: str = "POST", path: str = CHAT, version: str = "1.1") -> bytes:
    lines = [f"{method} {path} HTTP/{version}", "host: 127.0.0.1", *headers, "", ""]
    return "\r\n".join(lines).encode()


class Line:
    """One connection."""

    def __init__(self, client: socket.socket) -> None:
        self.socket = client
        self.got = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        """The next answer: status, headers, body (chunks put together)."""
        while b"\r\n\r\n" not in self.got:
            self._need()
        top, _, self.got = self.got.partition(b"\r\n\r\n")
        first, *lines = top.decode().split("\r\n")
        pairs = (line.split(": ", 1) for line in lines)
        headers = {name.lower(): value for name, value in pairs}
        status = int(first.split(" ")[1])
        if status < 200 or status in (204, 304):
            return status, headers, b""
        if headers.get("transfer-encoding") == "chunked":
            return status, headers, self._chunks()
        if "content-length" not in headers:
            return status, headers, self.rest()
        return status, headers, self._exactly(int(headers["content-length"]))

    def status(self) -> int:
        return self.answer()[0]

    def error(self) -> tuple[int, str]:
        """The next answer's status and error code."""
        status, _, body = self.answer()
        return status, orjson.loads(body)["error"]["code"]

    def rest(self) -> bytes:
        """Everything until the server closes."""
        while self.more():
            pass
        rest, self.got = self.got, b""
        return rest

    def closed(self) -> bool:
        """Waits for the server's end; whether nothing came before it."""
        return self.rest() == b""

    def _chunks(self) -> bytes:
        found = b""
        while True:
            while b"\r\n" not in self.got:
                self._need()
            size, _, self.got = self.got.partition(b"\r\n")
            piece = self._exactly(int(size, 16) + 2)
            if not int(size, 16):
                return found
            found += piece[:-2]

    def _exactly(self, size: int) -> bytes:
        while len(self.got) < size:
            self._need()
        piece, self.got = self.got[:size], self.got[size:]
        return piece

    def _need(self) -> None:
        assert self.more(), f"the server closed after {self.got[:200]!r}"

    def more(self) -> bool:
        """Read on; False at the server's end."""
        try:
            data = self.socket.recv(65536)
        except ConnectionResetError:
            return False
        self.got += data
        return bool(data)


def until(true: Callable[[], bool]) -> None:
    """Waits for what has to become true within half a minute."""
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline, "it never became true"
        time.sleep(0.01)


@contextmanager
def line(url: str) -> Iterator[Line]:
    """A connection to the server at `url`; whatever is waited for comes within half a minute."""
    address = httpx2.URL(url)
    with socket.create_connection((address.host, address.port or 0), timeout=30) as client:
        yield Line(client)
