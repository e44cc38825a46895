"""A provider whose answers stop half-way until they are let go on."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from gateway.running import background_server

WORDS = ["one", " two", " three"]


class Held:
    """`url` answers with `WORDS`; after the first one it waits for `let_go`."""

    def __init__(self) -> None:
        self.url = ""
        self.waiting = 0
        self.all_wait = threading.Event()
        self.expected = 0
        self._go = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def expect(self, streams: int) -> None:
        """`all_wait` is set once so many answers wait."""
        self.waiting, self.expected = 0, streams
        self.all_wait.clear()

    def let_go(self) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._go.set)

    async def chunks(self) -> AsyncGenerator[str, None]:
        yield _sse({"content": WORDS[0]})
        self._loop = asyncio.get_running_loop()
        self.waiting += 1
        if self.waiting == self.expected:
            self.all_wait.set()
        await self._go.wait()
        for word in WORDS[1:]:
            yield _sse({"content": word})
        yield _sse({}, "stop")
        yield "data: [DONE]\n\n"


@contextmanager
def held_provider() -> Iterator[Held]:
    """Serve one on the loopback address."""
    held = Held()

    async def chat(_request: Request) -> StreamingResponse:
        return StreamingResponse(held.chunks(), media_type="text/event-stream")

    app = Starlette(routes=[Route("/v1/chat/completions", chat, methods=["POST"])])
    with background_server(app) as url:
        held.url = f"{url}/v1"
        try:
            yield held
        finally:
            with suppress(AssertionError):
                held.let_go()


def _sse(delta: dict[str, Any], finish: str | None = None) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return f"data: {json.dumps({'choices': [choice], 'model': 'm'})}\n\n"
