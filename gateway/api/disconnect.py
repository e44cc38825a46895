"""Work that ends when its client leaves or the gateway stops, streamed or not."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from typing import TypeVar

import anyio
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.errors import ApiError
from gateway.server.shutdown import ClientLeftError, shutting_down
from gateway.state import GATEWAY, Gateway, gateway_of

T = TypeVar("T")


async def unless_disconnected(request: Request, work: Callable[[], Awaitable[T]]) -> T:
    """Run `work`, and cancel it when the client closes the connection or the gateway stops.

    Raises:
        ClientLeftError: The client left first.
        ApiError: 503, the gateway stops.
    """
    shutdown = gateway_of(request).lasting.shutdown
    results: list[T] = []
    failures: list[Exception] = []
    async with anyio.create_task_group() as tasks:

        async def watch() -> None:
            await _gone(request.receive)
            tasks.cancel_scope.cancel()

        tasks.start_soon(watch)
        with shutdown.calling(tasks.cancel_scope.cancel):
            try:
                results.append(await work())
            except Exception as error:  # noqa: BLE001 - raised below, out of the group's wrapping
                failures.append(error)
        tasks.cancel_scope.cancel()
    for failure in failures:
        raise failure
    if not results:
        raise shutting_down() if shutdown.begun else ClientLeftError
    return results[0]


class EventStream(Response):
    """Sends each piece as it comes, and stops the work behind it when the client is gone.

    Args:
        pieces: What to send.
        headers: Response headers.
        close: Called once at the end, however it came, even if no piece was ever asked for.
        fail: The bytes that end the stream when the gateway stops before it is complete.
        begun: The head and the first pieces were sent already.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        pieces: AsyncGenerator[bytes, None],
        headers: Mapping[str, str],
        close: Callable[[], Awaitable[None]],
        fail: Callable[[ApiError], Iterator[bytes]],
        *,
        begun: bool = False,
    ) -> None:
        # Caches and proxies such as nginx would hold a stream back without these two.
        unbuffered = {"cache-control": "no-cache", "x-accel-buffering": "no"}
        super().__init__(headers={**headers, **unbuffered})
        del self.headers["content-length"]
        self._pieces = pieces
        self._close = close
        self._fail = fail
        self._begun = begun

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gateway: Gateway = scope[GATEWAY]
        try:
            async with anyio.create_task_group() as tasks:

                async def watch() -> None:
                    await _gone(receive)
                    tasks.cancel_scope.cancel()

                tasks.start_soon(watch)
                if not self._begun:
                    start = {"type": "http.response.start", "status": self.status_code}
                    await send({**start, "headers": self.raw_headers})
                with (
                    anyio.CancelScope() as sending,
                    gateway.lasting.shutdown.calling(sending.cancel),
                ):
                    await self._send_all(send)
                if sending.cancelled_caught:
                    await self._break_off(send)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                tasks.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await self._end()

    async def _send_all(self, send: Send) -> None:
        async for piece in self._pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})

    async def _break_off(self, send: Send) -> None:
        # Its books are closed first: the process may not live to see the client take the rest.
        await self._end()
        for piece in self._fail(shutting_down()):
            await send({"type": "http.response.body", "body": piece, "more_body": True})

    async def _end(self) -> None:
        await self._pieces.aclose()
        await self._close()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
