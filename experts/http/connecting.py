"""What there is to know of an endpoint before it is connected to."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from urllib.parse import urlsplit

import anyio
import httpx2


class ConnectTurn:
    """Leave to get a connection; over as soon as the request is sent on one.

    A thousand calls that begin in one moment would keep the event loop from each other's sockets
    until all connections have timed out, and an expert that did nothing wrong would be blamed.
    """

    def __init__(self, turns: anyio.Semaphore) -> None:
        self._turns = turns
        self._mine = False

    async def __aenter__(self) -> ConnectTurn:
        await self._turns.acquire()
        self._mine = True
        return self

    async def heard(self, event: str, _info: object) -> None:
        """Something happened to the request."""
        if event == "http11.send_request_headers.started":
            self._end()

    async def __aexit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        if self._mine:
            self._mine = False
            self._turns.release()


def bearer(api_key: str | None) -> dict[str, str]:
    """The header that shows a key; none without one."""
    return {"authorization": f"Bearer {api_key}"} if api_key else {}


NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For who never uses it: it trusts nobody."""


@cache
def tls() -> ssl.SSLContext:
    """Shared by all experts: reading the certificates takes longer than all else together."""
    return httpx2.create_ssl_context(trust_env=False)


async def prepare() -> None:
    """Load what the first client needs: where no expert has one yet, a request will make it."""
    await anyio.to_thread.run_sync(import_module, "httpcore2")


@cache
def _tidy() -> None:
    """Have no connection used again over which more came than one answer.

    What is left would be taken for the answer to the next request, which may be another client's.
    The library has no word for this, so it is told in its own.
    """
    # Where no expert needs it, it is not loaded.
    from httpcore2 import AsyncHTTP11Connection as Connection

    closed = Connection._response_closed

    async def response_closed(connection: Connection) -> None:
        left, _ = connection._h11_state.trailing_data
        await (connection.aclose() if left else closed(connection))

    Connection._response_closed = response_closed  # type: ignore[assignment, method-assign]


def new_client(
    headers: Mapping[str, str],
    connect_s: float,
    transport: httpx2.AsyncBaseTransport | None,
    *,
    plain: bool = False,
) -> httpx2.AsyncClient:
    """A client that waits as long as its caller, with as many connections as are asked for.

    Args:
        headers: Sent with every request.
        connect_s: How long a connection may take.
        transport: Instead of a network's.
        plain: Whether it is for endpoints without TLS only.
    """
    # Asked for is what can be unpacked, whatever else is installed.
    sent = httpx2.Headers({"accept-encoding": "gzip"})
    sent.update(headers)
    if transport is None:
        _tidy()
    return httpx2.AsyncClient(
        headers=sent,
        timeout=httpx2.Timeout(None, connect=connect_s),
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=64),
        transport=transport,
        verify=NO_TLS if plain else tls(),
        # A proxy from the environment would see prompts and keys that no one sent its way.
        trust_env=False,
    )


def is_plain(url: str) -> bool:
    """Whether a call to `url` needs neither TLS nor a password of its own."""
    parts = urlsplit(url)
    return parts.scheme == "http" and "@" not in parts.netloc and not parts.query
