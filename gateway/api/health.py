"""Health for load balancers."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from gateway.api.json_answer import json_answer
from gateway.api.routing import Routes
from gateway.server.listeners import is_public
from gateway.state import gateway_of

api = Routes()


@api.head("/health/live")
@api.get("/health/live")
async def live(_request: Request) -> Response:
    """The process runs."""
    return json_answer({"status": "live"})


@api.head("/health/ready")
@api.get("/health/ready")
async def ready(request: Request) -> Response:
    """Configuration, router and ledger are loaded; 503 while the ledger can't keep up."""
    gateway = gateway_of(request)
    behind = gateway.ledger.pressed
    status = "ledger_behind" if behind else "ready"
    code = 503 if behind else 200
    if is_public(request, request.app.state.admin_port):
        # Whoever can reach us may ask this without a key.
        return json_answer({"status": status}, code)
    body = {
        "status": status,
        "experts": sorted(gateway.pool.experts),
        "routers": {name: router.version for name, router in gateway.serving.current.items()},
        "refused_routers": dict(gateway.serving.refused),
        "ledger_pending_rows": gateway.ledger.pending,
    }
    return json_answer(body, code)
