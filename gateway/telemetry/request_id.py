"""`x-request-id` on every answer: the client's own when it is fit to be one, else ours.

Anthropic's clients get it as `request-id` too, or the decision's id in its place once there is one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.ids import new_id

HEADER = "x-request-id"
OF_ANTHROPIC = "request-id"
"""Where Anthropic's SDKs look for the name of a request."""
_RAW_HEADER = HEADER.encode()
_DECISION_ID = b"x-pointsman-decision-id"
_FIT = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")


def request_id_from(raw: bytes | None) -> str:
    """The id that a client gave, or a new one: what it says goes into logs and headers."""
    if raw is not None and _FIT.fullmatch(raw):
        return raw.decode()
    return new_id("req")


def request_id_of(scope: Scope) -> str:
    """The id of the request that `scope` describes."""
    found: str = scope["state"]["request_id"]
    return found


class RequestIds:
    """Gives every request its id, and every answer the header.

    Args:
        app: What stands behind it.
        of_anthropic: Whether a request comes from a client of Anthropic's API.
    """

    def __init__(self, app: ASGIApp, of_anthropic: Callable[[Scope], bool]) -> None:
        self._app = app
        self._of_anthropic = of_anthropic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state: dict[str, Any] = scope.setdefault("state", {})
        if "request_id" not in state:
            given = next((value for name, value in scope["headers"] if name == _RAW_HEADER), None)
            state["request_id"] = request_id_from(given)
        request_id = state["request_id"]

        async def tagged(message: Message) -> None:
            if message["type"] == "http.response.start":
                raw, headers = request_id.encode(), list(message["headers"])
                if self._of_anthropic(scope):
                    decided = next((value for name, value in headers if name == _DECISION_ID), raw)
                    headers.append((OF_ANTHROPIC.encode(), decided))
                message["headers"] = [*headers, (_RAW_HEADER, raw)]
            await send(message)

        await self._app(scope, receive, tagged)
