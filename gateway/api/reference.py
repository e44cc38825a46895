"""The description of our own HTTP interface, for people and programs."""

from __future__ import annotations

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html

api = APIRouter()


@api.get("/openapi.json", include_in_schema=False)
async def openapi(request: Request) -> Response:
    """Every route in OpenAPI's format."""
    return Response(orjson.dumps(request.app.openapi()), media_type="application/json")


@api.get("/docs", include_in_schema=False)
async def docs(request: Request) -> Response:
    """The same as a page, whose scripts the browser fetches from a public network of servers."""
    return get_swagger_ui_html(openapi_url="/openapi.json", title=request.app.title)
