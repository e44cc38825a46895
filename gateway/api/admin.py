"""`/admin/*`: what the operator may see and change while the gateway runs."""

from __future__ import annotations

from typing import Any

import anyio
from starlette.requests import Request
from starlette.responses import Response

from gateway.api.body import parse_body
from gateway.api.json_answer import json_answer
from gateway.api.routing import Routes
from gateway.errors import ApiError, ConfigError
from gateway.routing.router_store import Promotion
from gateway.state import Gateway, gateway_of, read_body

api = Routes("/admin")


@api.get("/routers")
async def list_routers(request: Request) -> Response:
    """Every router: the version that serves, the promoted one, all there are."""
    gateway = gateway_of(request)
    gateway.keyring.check_admin(request)
    names = sorted({*gateway.serving.current, *gateway.store.names()})
    return json_answer({name: _about(gateway, name) for name in names})


@api.post("/routers/{name}/promote")
async def promote(request: Request, name: str) -> Response:
    """Serve `{"version": ...}` from now on, without a restart."""
    gateway = gateway_of(request)
    gateway.keyring.check_admin(request)
    version = parse_body(await read_body(request)).get("version")
    if not isinstance(version, str) or not version:
        raise ApiError(400, "version: must name a version of the router", param="version")
    return await _moved(gateway, name, lambda: gateway.store.promote(name, version))


@api.post("/routers/{name}/rollback")
async def rollback(request: Request, name: str) -> Response:
    """Serve again what served before."""
    gateway = gateway_of(request)
    gateway.keyring.check_admin(request)
    return await _moved(gateway, name, lambda: gateway.store.rollback(name))


async def _moved(gateway: Gateway, name: str, move: Any) -> Response:
    def change() -> Promotion:
        try:
            promotion: Promotion = move()
        except ConfigError as error:
            raise ApiError(404, str(error), code="router_not_found") from error
        gateway.serving.refresh()
        gateway.decider.prepare()
        return promotion

    await anyio.to_thread.run_sync(change)
    return json_answer(_about(gateway, name))


def _about(gateway: Gateway, name: str) -> dict[str, Any]:
    promotion = gateway.store.promoted(name)
    serving = gateway.serving.current.get(name)
    return {
        "serving": serving.version if serving else None,
        "promoted": promotion.version if promotion else None,
        "promoted_at": promotion.at if promotion else None,
        "history": list(promotion.history) if promotion else [],
        "versions": gateway.store.versions(name),
        "refused": gateway.serving.refused.get(name),
    }
