"""The description of our own HTTP interface, for people and programs."""

from __future__ import annotations

import orjson
from fastapi import APIRouter, Request, Response

from gateway.dashboard.html import html, page

api = APIRouter()


@api.get("/openapi.json", include_in_schema=False)
async def openapi(request: Request) -> Response:
    """Every route in OpenAPI's format."""
    return Response(orjson.dumps(request.app.openapi()), media_type="application/json")


@api.get("/docs", include_in_schema=False)
async def docs(request: Request) -> Response:
    """The same as a page. Nobody else's script runs on it: who reads it is an operator."""
    described = request.app.openapi()
    routes = [
        (path, method.upper(), about.get("description") or about.get("summary", ""))
        for path, methods in described["paths"].items()
        for method, about in methods.items()
    ]
    return html(page("interface.html", routes=routes, **described["info"]))
