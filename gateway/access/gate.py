"""Stands before every route: nobody passes without a key, except to what is listed as open."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.access.keyring import KEY_IN_SCOPE
from gateway.access.keys import Key
from gateway.errors import ApiError
from gateway.state import GATEWAY, Gateway, gateway_of

HEALTH = frozenset({"/health/live", "/health/ready"})
METRICS = "/metrics"
Render = Callable[[Request, Exception], Awaitable[Response]]


class AuthenticationMiddleware:
    """ASGI middleware that wants a key for every path but the open ones.

    It looks at the path that routing will look at, and at nothing that a `Host` header says. A
    route that is added later is closed until somebody opens it here.

    Args:
        app: What stands behind it.
        render: Turns an error into the answer.
    """

    def __init__(self, app: ASGIApp, render: Render) -> None:
        self._app = app
        self._render = render

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not _is_open(scope):
            request = Request(scope, receive)
            try:
                gateway = gateway_of(request)
                key = scope[KEY_IN_SCOPE] = gateway.keyring.check(request)
            except ApiError as error:
                response = await self._render(request, error)
                await response(scope, receive, send)
                return
            if scope["path"].startswith("/v1/"):
                send = _limited(gateway, key, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        await self._app(scope, receive, send)


def _is_open(scope: Scope) -> bool:
    gateway: Gateway = scope[GATEWAY]
    path = scope["path"]
    return path in HEALTH or (path == METRICS and gateway.settings.access.open_metrics)


def _limited(gateway: Gateway, key: Key, send: Send) -> Send:
    """Tells a key how its limits stand, with every answer under `/v1/`."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start" and (limits := gateway.admission.headers(key)):
            headers = MutableHeaders(scope=message)
            for name, value in limits.items():
                headers.setdefault(name, value)
        await send(message)

    return sending
