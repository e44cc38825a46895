"""Routes and what they say of themselves: a method, a path, a handler, and its description."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

Handler = Callable[..., Awaitable[Response]]
"""Takes the request, and each part of the path that has a name by that name."""
Check = Callable[[Request], None]
"""Raises what is answered in place of the handler."""
Described = Mapping[str, Any]
"""An operation in OpenAPI's words; see `gateway.api.described.operation`."""


class DescribedRoute(Route):
    """One method of one path.

    Args:
        method: In capitals.
        path: With names in braces.
        handler: Answers.
        said: Its description; None: the document says nothing of it.
        check: Who may come here.
    """

    def __init__(
        self,
        method: str,
        path: str,
        handler: Handler,
        said: Described | None,
        check: Check | None = None,
    ) -> None:
        async def endpoint(request: Request) -> Response:
            if check is not None:
                check(request)
            return await handler(request, **request.path_params)

        super().__init__(path, endpoint, methods=[method], name=handler.__name__)
        # What answers GET need not answer HEAD, as the framework takes for granted.
        self.methods = {method}
        self.method, self.handler, self.said = method, handler, said

    def behind(self, check: Check) -> DescribedRoute:
        """The same for whom `check` lets in."""
        return DescribedRoute(self.method, self.path, self.handler, self.said, check)


class Routes:
    """The routes of one module, added by decorators.

    Args:
        prefix: What their paths begin with.

    Attributes:
        routes: In the order that they were added.
    """

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        self.routes: list[DescribedRoute] = []

    def get(self, path: str, said: Described | None = None) -> Callable[[Handler], Handler]:
        return self._adding("GET", path, said)

    def head(self, path: str, said: Described | None = None) -> Callable[[Handler], Handler]:
        return self._adding("HEAD", path, said)

    def post(self, path: str, said: Described | None = None) -> Callable[[Handler], Handler]:
        return self._adding("POST", path, said)

    def delete(self, path: str, said: Described | None = None) -> Callable[[Handler], Handler]:
        return self._adding("DELETE", path, said)

    def _adding(
        self, method: str, path: str, said: Described | None
    ) -> Callable[[Handler], Handler]:
        def add(handler: Handler) -> Handler:
            self.routes.append(DescribedRoute(method, self._prefix + path, handler, said))
            return handler

        return add
