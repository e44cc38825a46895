"""Stands before every route: nobody passes without a key, except to what is listed as open."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.access.keyring import KEY_IN_SCOPE, Keyring
from gateway.access.keys import Key
from gateway.errors import ApiError

HEALTH = frozenset({"/health/live", "/health/ready"})
METRICS = "/metrics"
Render = Callable[[Request, Exception], Awaitable[Response]]


class Gate:
    """ASGI middleware that wants a key for every path but the open ones.

    It looks at the path that routing will look at, and at nothing that a `Host` header says. A
    route that is added later is closed until somebody opens it here.

    Args:
        app: What stands behind it.
        keyring: Who may pass.
        render: Turns an error into the answer.
        limits: Headers that tell a key how its limits stand, for every answer under `/v1/`.
        open_metrics: Whether `/metrics` is open too.
    """

    def __init__(
        self,
        app: ASGIApp,
        keyring: Keyring,
        render: Render,
        limits: Callable[[Key], Mapping[str, str]],
        *,
        open_metrics: bool,
    ) -> None:
        self._app = app
        self._keyring = keyring
        self._render = render
        self._limits = limits
        self._open = HEALTH | {METRICS} if open_metrics else HEALTH

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in self._open:
            request = Request(scope, receive)
            try:
                key = scope[KEY_IN_SCOPE] = self._keyring.check(request)
            except ApiError as error:
                response = await self._render(request, error)
                await response(scope, receive, send)
                return
            if scope["path"].startswith("/v1/"):
                send = self._limited(key, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        await self._app(scope, receive, send)

    def _limited(self, key: Key, send: Send) -> Send:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start" and (limits := self._limits(key)):
                headers = MutableHeaders(scope=message)
                for name, value in limits.items():
                    headers.setdefault(name, value)
            await send(message)

        return sending
