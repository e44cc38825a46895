"""The description of our own HTTP interface, for people and programs."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from pydantic.json_schema import models_json_schema

from gateway.access.gate import HEALTH
from gateway.api.described.operation import REF, SHAPES
from gateway.api.json_answer import json_answer
from gateway.dashboard.html import html, page

api = APIRouter()
_KEYS: dict[str, Any] = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
}


class DescribedApp(FastAPI):
    """An application whose document says what its routes said of themselves and nothing else."""

    def openapi(self) -> dict[str, Any]:
        """The document in OpenAPI's format."""
        if self.openapi_schema is None:
            document = super().openapi()
            for path, operations in document["paths"].items():
                for operation in operations.values():
                    _only_ours(operation)
                    if path in HEALTH:
                        operation["security"] = []
            document["components"] = {"schemas": _schemas(), "securitySchemes": _KEYS}
            # A gateway without keys lets this machine's callers in.
            document["security"] = [*({name: []} for name in _KEYS), {}]
            self.openapi_schema = document
        return self.openapi_schema


def _only_ours(operation: dict[str, Any]) -> None:
    """Takes out what the framework takes for granted: its check of parameters, any JSON as body."""
    operation["responses"].pop("422", None)
    for answer in operation["responses"].values():
        said = answer["content"]
        answer["content"] = {kind: said[kind] for kind in said if said[kind]["schema"]}


def _schemas() -> dict[str, Any]:
    shapes = [(shape, "validation") for _, shape in sorted(SHAPES.items())]
    _, schemas = models_json_schema(shapes, ref_template=REF)  # type: ignore[arg-type]
    found: dict[str, Any] = schemas["$defs"]
    return found


@api.get("/openapi.json", include_in_schema=False)
async def openapi(request: Request) -> Response:
    """Every route in OpenAPI's format."""
    return json_answer(request.app.openapi())


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
