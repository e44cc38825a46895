"""`GET /admin/experts`: who can be asked just now, and how they are."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from experts.base import Expert
from experts.http_expert import HttpExpert
from gateway.api.described.admin import ExpertStates
from gateway.api.described.operation import ADMIN, described
from gateway.reload.snapshots import Snapshots
from gateway.state import Gateway, gateway_of

api = APIRouter(prefix="/admin/experts")


@api.get("", **described(ExpertStates, ADMIN))
async def list_experts(request: Request) -> Response:
    """Every expert with its health and load, those too that a reload took away and still answer.

    Experts come and go by reload alone: a route that added one would let whoever holds an admin key
    choose where prompts and provider keys are sent, and the file would tell something else.
    """
    gateway_of(request).keyring.check_admin(request)
    snapshots: Snapshots = request.app.state.snapshots
    current = snapshots.current.gateway
    told = [_about(current, name, expert) for name, expert in sorted(current.pool.experts.items())]
    seen = {id(expert) for expert in current.pool.experts.values()}
    for snapshot in reversed(snapshots.live):
        gateway = snapshot.gateway
        for name, expert in sorted(gateway.pool.experts.items()):
            if id(expert) not in seen:
                seen.add(id(expert))
                told.append({**_about(gateway, name, expert), "leaving": True})
    return Response(orjson.dumps({"experts": told}), media_type="application/json")


def _about(gateway: Gateway, name: str, expert: Expert) -> dict[str, Any]:
    traffic, prices = gateway.lasting.traffic, expert.card.prices
    return {
        "id": name,
        "leaving": False,
        "health": traffic.health.state(name).value,
        "wait_s": round(traffic.health.wait_s(name), 3),
        "in_flight": gateway.telemetry.metrics.running.get(name, 0),
        "waiting": traffic.slots.waiting(name),
        "endpoints": _endpoints(expert),
        "price_source": prices.source if prices else None,
        "local": expert.card.local,
    }


def _endpoints(expert: Expert) -> list[dict[str, Any]]:
    if not isinstance(expert, HttpExpert):
        return []
    return [
        {"url": each.url, "in_flight": each.load, "wait_s": round(each.wait_s, 3)}
        for each in expert.endpoints
    ]
