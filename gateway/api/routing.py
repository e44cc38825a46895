"""Routes: a method, a path, a handler, and who may come there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

Handler = Callable[..., Awaitable[Response]]
"""Takes the request, and each part of the path that has a name by that name."""
Check = Callable[[Request], None]
"""Raises what is answered in place of the handler."""


class MethodRoute(Route):
    """One method of one path.

    Args:
        method: In capitals.
        path: With names in braces.
        handler: Answers.
        check: Who may come here.
    """

    def __init__(
        self, method: str, path: str, handler: Handler, check: Check | None = None
    ) -> None:
        async def endpoint(request: Request) -> Response:
            if check is not None:
                check(request)
            return await handler(request, **request.path_params)

        super().__init__(path, endpoint, methods=[method], name=handler.__name__)
        # What answers GET need not answer HEAD, as the framework takes for granted.
        self.methods = {method}
        self.method, self.handler = method, handler

    def behind(self, check: Check) -> MethodRoute:
        """The same for whom `check` lets in."""
        return MethodRoute(self.method, self.path, self.handler, check)


class Routes:
    """The routes of one module, added by decorators.

    Args:
        prefix: What their paths begin with.

    Attributes:
        routes: In the order that they were added.
    """

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        self.routes: list[MethodRoute] = []

    def get(self, path: str) -> Callable[[Handler], Handler]:
        return self._adding("GET", path)

    def head(self, path: str) -> Callable[[Handler], Handler]:
        return self._adding("HEAD", path)

    def post(self, path: str) -> Callable[[Handler], Handler]:
        return self._adding("POST", path)

    def delete(self, path: str) -> Callable[[Handler], Handler]:
        return self._adding("DELETE", path)

    def _adding(self, method: str, path: str) -> Callable[[Handler], Handler]:
        def add(handler: Handler) -> Handler:
            self.routes.append(MethodRoute(method, self._prefix + path, handler))
            return handler

        return add
