"""Base URLs that are right for another gateway or SDK: `/v1` left out or said twice, or Azure's."""

from __future__ import annotations

import re

from starlette.types import ASGIApp, Receive, Scope, Send

_VERSION = "/v1"
_KINDS = frozenset({"chat", "completions", "embeddings", "messages", "models", "responses"})
"""What clients of models ask for; all other routes have one path only."""
_AZURE = "/openai"
_DEPLOYED = re.compile(
    r"/openai/deployments/(.+?)(/(?:chat/completions|completions|embeddings))", re.DOTALL
)
DEPLOYMENT = "pointsman.deployment"
"""Where a request's scope holds the model that its path names, as Azure's paths do."""


def meant(path: str) -> str:
    """The path that a client of models means: `/v1/models` by `/models` and by `/v1/v1/models`."""
    if not path.startswith(_AZURE):
        return _versioned(path)
    if deployed := _DEPLOYED.fullmatch(path):
        return _VERSION + deployed[2]
    inner = _versioned(path.removeprefix(_AZURE))
    version, _, rest = inner.removeprefix("/").partition("/")
    return inner if version == "v1" and rest.partition("/")[0] in _KINDS else path


def _versioned(path: str) -> str:
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
        if scope["type"] == "http" and (path := meant(asked := scope["path"])) != asked:
            raw = meant(scope.get("raw_path", b"").decode("latin-1") or path).encode("latin-1")
            scope = {**scope, "path": path, "raw_path": raw}
            if deployed := _DEPLOYED.fullmatch(asked):
                scope[DEPLOYMENT] = deployed[1]
        await self._app(scope, receive, send)
