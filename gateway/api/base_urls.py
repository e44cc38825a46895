"""Base URLs that are right for another gateway or another SDK: `/v1` left out, or said twice."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

_VERSION = "/v1"
_KINDS = frozenset({"chat", "completions", "embeddings", "messages", "models", "responses"})
"""What clients of models ask for; all other routes have one path only."""


def meant(path: str) -> str:
    """The path that a client of models means: `/v1/models` by `/models` and by `/v1/v1/models`."""
    root, _, rest = path.partition("/")
    if not root and rest.partition("/")[0] in _KINDS:
        return _VERSION + path
    return path.removeprefix(_VERSION) if path.startswith("/v1/v1/") else path


class BaseUrls:
    """Has requests served at the path that they mean, before anybody looks at who may ask for it.

    Args:
        app: What stands behind it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (path := meant(scope["path"])) != scope["path"]:
            raw = meant(scope.get("raw_path", b"").decode("latin-1") or path).encode("latin-1")
            scope = {**scope, "path": path, "raw_path": raw}
        await self._app(scope, receive, send)
