"""Figures for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from gateway.state import gateway_of

api = APIRouter()


@api.get("/metrics")
async def metrics(request: Request) -> Response:
    """Prometheus's text format; without a key, since it names neither keys nor prompts."""
    return Response(gateway_of(request).metrics.text(), media_type="text/plain; version=0.0.4")
