"""Figures for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from gateway.api.described.operation import ADMIN, Text, described
from gateway.state import gateway_of
from gateway.telemetry.engines import engine_figures
from gateway.telemetry.metrics import CONTENT_TYPE

api = APIRouter()


@api.get("/metrics", **described(Text("text/plain"), ADMIN))
async def metrics(request: Request) -> Response:
    """Prometheus's text format; it names neither keys nor prompts."""
    gateway = gateway_of(request)
    line = gateway.lasting.line
    engines = engine_figures(await line.shown() if line else {})
    return Response(await gateway.telemetry.metrics.text(engines), media_type=CONTENT_TYPE)
