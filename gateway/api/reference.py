"""The description of our own HTTP interface, for people and programs."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import anyio
from pydantic.json_schema import models_json_schema
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Lifespan

from gateway.access.gate import HEALTH
from gateway.api.described.operation import REF, SHAPES
from gateway.api.json_answer import json_answer
from gateway.api.routing import MethodRoute, Routes
from gateway.dashboard.html import html, page

api = Routes()
_KEYS: dict[str, Any] = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    "api-key": {"type": "apiKey", "in": "header", "name": "api-key"},
}


class DescribedApp(Starlette):
    """An application that can tell what its routes read and answer."""

    def __init__(self, lifespan: Lifespan[DescribedApp] | None = None) -> None:
        super().__init__(lifespan=lifespan)
        # It would send clients to the same place under whatever `Host` they sent.
        self.router.redirect_slashes = False
        self._document: dict[str, Any] | None = None

    def openapi(self) -> dict[str, Any]:
        """The document in OpenAPI's format."""
        if self._document is None:
            self._document = {
                "openapi": "3.1.0",
                "info": {"title": "Pointsman", "version": version("pointsman")},
                "paths": self._paths(),
                "components": {"schemas": _schemas(), "securitySchemes": _KEYS},
                # A gateway without keys lets this machine's callers in.
                "security": [*({name: []} for name in _KEYS), {}],
            }
        return self._document

    def _paths(self) -> dict[str, Any]:
        # Most gateways are never asked what they are.
        from gateway.api.described.interface import DESCRIBED

        paths: dict[str, Any] = {}
        for route in self.routes:
            if not isinstance(route, MethodRoute):
                continue
            if said := DESCRIBED.get(f"{route.method} {route.path_format}"):
                operations = paths.setdefault(route.path_format, {})
                operations[route.method.lower()] = _operation(route, said)
        return paths


def _operation(route: MethodRoute, said: Mapping[str, Any]) -> dict[str, Any]:
    named = [_part(name) for name in route.param_convertors]
    called = f"{route.name}{route.path_format}_{route.method.lower()}"
    operation = {
        "summary": _title(route.name),
        "description": inspect.getdoc(route.handler) or "",
        "operationId": re.sub(r"\W", "_", called),
        **said,
        "parameters": [*named, *said["parameters"]],
    }
    return operation | ({"security": []} if route.path in HEALTH else {})


def _part(name: str) -> dict[str, Any]:
    """A part of a path that has a name."""
    schema = {"type": "string", "title": _title(name)}
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _title(name: str) -> str:
    return name.replace("_", " ").title()


def _schemas() -> dict[str, Any]:
    shapes = [(shape, "validation") for _, shape in sorted(SHAPES.items())]
    _, schemas = models_json_schema(shapes, ref_template=REF)  # type: ignore[arg-type]
    found: dict[str, Any] = schemas["$defs"]
    return found


@api.get("/openapi.json")
async def openapi(request: Request) -> Response:
    """Every route in OpenAPI's format."""
    return json_answer(await _document(request))


@api.get("/docs")
async def docs(request: Request) -> Response:
    """The same as a page. Nobody else's script runs on it: who reads it is an operator."""
    described = await _document(request)
    routes = [
        (path, method.upper(), about.get("description") or about.get("summary", ""))
        for path, methods in described["paths"].items()
        for method, about in methods.items()
    ]
    return html(page("interface.html", routes=routes, **described["info"]))


async def _document(request: Request) -> dict[str, Any]:
    # Made once, which takes longer than others should wait.
    made: dict[str, Any] = await anyio.to_thread.run_sync(request.app.openapi)
    return made
