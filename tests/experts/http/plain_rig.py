"""An event loop without sockets and time, on which a script is every server there is."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable
from typing import Any

from experts.http.plain_connection import Connection

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n"
TO_NOBODY = b"to nobody"
Owner = int | None


class Hangup:
    """What ends what a server says; `error` unless it is orderly."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error


Said = tuple[Owner, bytes | Hangup]
"""A piece of what a server says, and the call that it answers."""


def sized(body: bytes, head: bytes = HEAD) -> bytes:
    """An answer whose head tells how long it is."""
    return head + b"content-length: %d\r\n\r\n%b" % (len(body), body)


def chunked(body: bytes) -> bytes:
    """In two chunks, with trailers that are none of the head."""
    pieces = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in (body[:3], body[3:]))
    trailers = b"content-type: text/html\r\ncontent-encoding: gzip\r\n"
    return HEAD + b"transfer-encoding: chunked\r\n\r\n" + pieces + b"0\r\n" + trailers + b"\r\n"


INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\ncontent-type: text/html\r\n\r\n"
RIGHT: dict[str, Callable[[bytes], bytes]] = {
    "sized": sized,
    "other": lambda body: sized(body, HEAD + b"x: %\r\n"),
    "chunked": chunked,
    "interim": lambda body: INTERIM + sized(body),
    "nested": lambda body: INTERIM + sized(sized(body)),
    "closed": lambda body: sized(body, HEAD + b"connection: close\r\n"),
    "packed": lambda body: sized(
        gzip.compress(body, mtime=0), HEAD + b"content-encoding: gzip\r\n"
    ),
    "old": lambda body: sized(body, HEAD.replace(b"1.1", b"1.0")),
    "old, kept": lambda body: sized(
        body, HEAD.replace(b"1.1", b"1.0") + b"connection: keep-alive\r\n"
    ),
    "refused": lambda body: sized(body, HEAD.replace(b"200 OK", b"429 Slow")),
    "empty": lambda _: HEAD.replace(b"200 OK", b"204 No") + b"\r\n",
    "lines": lambda body: sized(body) + b"\r\n",
}
"""Answers that are complete, by name."""
KEPT = RIGHT.keys() - {"closed", "old"}
"""Those after which the connection takes the next call."""
WRONG: dict[str, Callable[[bytes], bytes]] = {
    "short": lambda body: sized(body + b"...")[:-3],
    "cut": lambda body: chunked(body)[:-60],
    "no HTTP": lambda body: body,
    "half a head": lambda _: HEAD,
    "nothing": lambda _: b"",
    "two lengths": lambda body: sized(body, HEAD + b"content-length: 3\r\n"),
    "both": lambda body: sized(body, HEAD + b"transfer-encoding: chunked\r\n"),
    "a long head": lambda body: sized(body, HEAD + b"x: %b\r\n" % (b"y" * 70_000)),
    "badly packed": lambda body: sized(b"\x1f" + body, HEAD + b"content-encoding: gzip\r\n"),
    "another protocol": lambda _: b"HTTP/1.1 101 Go\r\nconnection: upgrade\r\nupgrade: h2\r\n\r\n",
    "no status": lambda body: sized(body, HEAD.replace(b"200 OK", b"099 No")),
}
"""Answers that never are, by name."""


def answers(kind: str, call: int, body: bytes) -> tuple[list[Said], bool]:
    """What a server says to `call`, and whether that is a complete answer."""
    if kind in WRONG:
        return [(call, WRONG[kind](body)), (None, Hangup())], False
    match kind:
        case "endless":
            return [(call, HEAD + b"\r\n" + body), (call, Hangup())], True
        case "doubled":
            return [(call, sized(body)), (None, sized(TO_NOBODY))], True
        case "reset":
            return [(call, sized(body)[:-1]), (None, Hangup(ConnectionResetError()))], False
    said = RIGHT[kind](body)
    return [(call, said)], True


def outcome(kind: str, body: bytes) -> tuple[int, bytes]:
    """Status and body of a complete answer."""
    status = {"empty": 204, "refused": 429}.get(kind, 200)
    return status, {"empty": b"", "nested": sized(body)}.get(kind, body)


KINDS = (*RIGHT, *WRONG, "endless", "doubled", "reset")


class Wire(asyncio.Transport):
    """One connection, as its server sees it.

    Attributes:
        to_come: What the server has said and the client has not read.
        asked: Calls that came, in order.
        begun: Those whose answer the client has begun to read.
    """

    def __init__(self, loop: Loop, protocol: Connection) -> None:
        super().__init__()
        self._loop, self.protocol = loop, protocol
        self.to_come: list[Said] = []
        self.asked: list[int] = []
        self.begun: set[Owner] = set()
        self.answered = 0
        self.closing = self.paused = self.is_lost = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closing
        assert self.answered == len(self.asked), "asked before it has answered"
        self.asked.append(int(bytes(data).partition(b"\r\n\r\n")[2]))
        self._loop.sent.add(self.asked[-1])

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def close(self) -> None:
        self.abort()

    def abort(self) -> None:
        self.lose(None)

    def lose(self, error: Exception | None) -> None:
        if not self.closing:
            self.closing = True
            self._loop.call_soon(self.protocol.connection_lost, error)

    def take(self, most: int) -> list[Said]:
        """What the client reads next, of one kind: bytes of one or several answers, or the end."""
        taken: list[Said] = []
        while self.to_come and most > 0:
            owner, said = self.to_come[0]
            if isinstance(said, Hangup):
                if not taken:
                    return [self.to_come.pop(0)]
                break
            taken.append((owner, said[:most]))
            if len(said) > most:
                self.to_come[0] = owner, said[most:]
            else:
                self.to_come.pop(0)
            most -= len(said)
        return [each for each in taken if each[1]]

    def hang_up(self, how: Hangup) -> None:
        if how.error is not None:
            self.is_lost = True
            self.lose(how.error)
        else:
            self.protocol.eof_received()
            self.close()


class Loop(asyncio.SelectorEventLoop):
    """Attributes:
    now: Its clock, seconds; who waits is woken by whoever moves it.
    doors: Connections that are asked for: a result opens them, an error refuses.
    wires: Those that were made.
    sent: Calls that went out.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.doors: list[asyncio.Future[None]] = []
        self.wires: list[Wire] = []
        self.sent: set[int] = set()

    def time(self) -> float:
        return self.now

    async def create_connection(self, factory: Any, *_: Any) -> Any:  # type: ignore[override]
        door = self.create_future()
        self.doors.append(door)
        await door
        # As asyncio does it: who waits is woken a turn later, and may be given up before.
        wire = Wire(self, factory())
        self.wires.append(wire)
        made = self.create_future()
        self.call_soon(wire.protocol.connection_made, wire)
        self.call_soon(_wake, made)
        try:
            await made
        except BaseException:
            wire.close()
            raise
        return wire, wire.protocol


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
