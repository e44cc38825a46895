"""Lets nobody in who does not know the key, on any route.

vLLM asks for its key under `/v1` only. What moves the engine (`/sleep`, `/collective_rpc`) lies
beside it, within reach of every process of this machine and of every page in its browsers.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

KEY = "VLLM_API_KEY"


class Guard:
    """An ASGI middleware; the key is in the environment variable that vLLM itself reads."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._expected = f"Bearer {os.environ[KEY]}".encode()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or self._knows_the_key(scope):
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # the server closes what was never accepted
        body = b'{"error": "Unauthorized"}'
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 401, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _knows_the_key(self, scope: Message) -> bool:
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        return len(given) == 1 and hmac.compare_digest(given[0], self._expected)
