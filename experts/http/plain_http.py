"""HTTP/1.1 to endpoints without TLS, by callbacks: no task and no copy per call.

An ordinary HTTP client spends more on a call than all the rest of the gateway. This one does what
a model's endpoint next door needs and no more: a POST with a body in hand, an answer handed on as
it comes off the socket, connections kept for the next call.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

from experts.errors import (
    ExpertCallError,
    ExpertConnectionError,
    ExpertTimeoutError,
)
from experts.http.heads import KnownHead
from experts.http.outbox import Outbox
from experts.http.plain_connection import Connection, PlainCall, Receiver

_IDLE_S = 4.0
"""Servers close idle connections after five seconds or more; a call must not meet one that goes."""
_MAX_IDLE = 256
CONNECTING_AT_ONCE = 32
"""More would keep the event loop from each other's sockets until all of them are late."""


class PlainEndpoint:
    """Calls to one path of one server.

    Args:
        expert_id: Whose calls they are, for errors.
        url: Base URL, `http://` only.
        path: Below it.
        headers: Sent with every call.
        connect_s: Longest wait for a connection.
    """

    def __init__(
        self, expert_id: str, url: str, path: str, headers: Mapping[str, str], connect_s: float
    ) -> None:
        parts = urlsplit(url)
        self.expert_id = expert_id
        self._host = parts.hostname or ""
        self._port = parts.port or 80
        self._connect_s = connect_s
        lines = {
            "host": parts.netloc.rpartition("@")[2],
            "accept": "*/*",
            "accept-encoding": "identity",
            "content-type": "application/json",
            **headers,
        }
        target = f"{parts.path.rstrip('/')}/{path}"
        self._head = f"POST {target} HTTP/1.1\r\n{_header_lines(lines)}content-length: ".encode()
        self._idle: list[Connection] = []
        self._all: set[Connection] = set()
        self._opening: dict[asyncio.Task[None], PlainCall] = {}
        self._turns = asyncio.Semaphore(CONNECTING_AT_ONCE)
        self._closed = False
        self.outbox = Outbox()
        self.template: KnownHead | None = None

    @property
    def connections(self) -> int:
        """How many are open, busy or idle."""
        return len(self._all)

    def send(self, body: bytes, headers: Mapping[str, str], receiver: Receiver) -> PlainCall:
        """Ask; the answer comes to `receiver`, never before this returns."""
        more = _header_lines(headers).encode() if headers else b""
        payload = b"%b%d\r\n%b\r\n%b" % (self._head, len(body), more, body)
        call = PlainCall(receiver)
        connection = self._idle_one()
        if connection is not None:
            connection.start(call, payload)
            return call
        task = asyncio.get_running_loop().create_task(self._opened(call, payload))
        call._opening = task
        self._opening[task] = call
        task.add_done_callback(self._opening.pop)
        return call

    async def aclose(self) -> None:
        """Close every connection."""
        self._closed = True
        for task, call in list(self._opening.items()):
            task.cancel()
            self._unreached(call, ExpertConnectionError(self.expert_id, "closed by ourselves"))
        for connection in list(self._all):
            connection.close()

    def _idle_one(self) -> Connection | None:
        fresh = time.monotonic() - _IDLE_S
        while self._idle:
            connection = self._idle.pop()
            if connection.idle_since >= fresh:
                return connection
            # It was used last of all, so those below it have waited longer still.
            for old in (connection, *self._idle):
                old.close()
            self._idle.clear()
        return None

    async def _opened(self, call: PlainCall, payload: bytes) -> None:
        try:
            async with self._turns, asyncio.timeout(self._connect_s):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: Connection(self), self._host, self._port
                )
        except TimeoutError:
            message = f"no connection within {self._connect_s:g} s"
            self._unreached(call, ExpertTimeoutError(self.expert_id, message))
        except (OSError, ValueError) as error:
            # A name that can't be asked for is a ValueError.
            message = f"no connection: {error}"
            self._unreached(call, ExpertConnectionError(self.expert_id, message))
        else:
            call._opening = None
            if not connection.is_open:
                message = "hung up as soon as there was a connection"
                self._unreached(call, ExpertConnectionError(self.expert_id, message))
            elif call.receiver is None:
                self.give_back(connection)
            else:
                connection.start(call, payload)

    def _unreached(self, call: PlainCall, error: ExpertCallError) -> None:
        receiver, call.receiver, call._opening = call.receiver, None, None
        if receiver is not None:
            receiver.on_broken(error)

    def opened(self, connection: Connection) -> None:
        """A connection is there."""
        self._all.add(connection)

    def lost(self, connection: Connection) -> None:
        """A connection is gone."""
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def give_back(self, connection: Connection) -> None:
        """A connection can take the next call."""
        if self._closed or len(self._idle) >= _MAX_IDLE:
            connection.close()
            return
        connection.idle_since = time.monotonic()
        self._idle.append(connection)


def _header_lines(headers: Mapping[str, str]) -> str:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items())
