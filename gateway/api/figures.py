"""Figures for Prometheus."""

from __future__ import annotations

import anyio
from starlette.requests import Request
from starlette.responses import Response

from gateway.api.routing import Routes
from gateway.state import gateway_of
from gateway.telemetry.devices import device_figures
from gateway.telemetry.engines import engine_figures
from gateway.telemetry.metrics import CONTENT_TYPE

api = Routes()


@api.get("/metrics")
async def metrics(request: Request) -> Response:
    """Prometheus's text format; it names neither keys nor prompts."""
    gateway = gateway_of(request)
    line = gateway.lasting.line
    engines = engine_figures(await line.shown() if line else {})
    ids = [one.id for one in gateway.settings.devices]
    devices = await anyio.to_thread.run_sync(device_figures, ids) if ids else []
    text = await gateway.telemetry.metrics.text([*engines, *devices])
    return Response(text, media_type=CONTENT_TYPE)
