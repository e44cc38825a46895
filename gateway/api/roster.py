"""`/admin/experts`: who can be asked just now, how they are, and whose engine is awake."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from experts.base import Expert
from experts.http.expert import HttpExpert
from gateway.api.json_answer import json_answer
from gateway.api.routing import Routes
from gateway.errors import ApiError
from gateway.reload.snapshots import Snapshots
from gateway.residency.line import LineError
from gateway.residency.words import Do
from gateway.settings.devices import turns_memory
from gateway.state import Gateway, gateway_of

api = Routes("/admin/experts")
_TIERS = ("awake", "host memory", "dropped", "disk")
"""Where its weights are, by the level of its sleep."""


@api.get("")
async def list_experts(request: Request) -> Response:
    """Every expert with its health and load, those too that a reload took away and still answer.

    Experts come and go by reload alone: a route that added one would let whoever holds an admin key
    choose where prompts and provider keys are sent, and the file would tell something else.
    """
    gateway_of(request).keyring.check_admin(request)
    snapshots: Snapshots = request.app.state.snapshots
    current = snapshots.current.gateway
    line = current.lasting.line
    engines = await line.shown() if line else {}
    told = [
        _about(current, name, expert, engines)
        for name, expert in sorted(current.pool.experts.items())
    ]
    seen = {id(expert) for expert in current.pool.experts.values()}
    for snapshot in reversed(snapshots.live):
        gateway = snapshot.gateway
        for name, expert in sorted(gateway.pool.experts.items()):
            if id(expert) not in seen:
                seen.add(id(expert))
                told.append({**_about(gateway, name, expert, engines), "leaving": True})
    return json_answer({"experts": told})


@api.post("/{expert_id:path}/start")
async def start(request: Request, expert_id: str) -> Response:
    """Start the engine of an expert that was stopped; answers when it is awake."""
    return await _moved(request, "start", expert_id)


@api.post("/{expert_id:path}/wake")
async def wake(request: Request, expert_id: str) -> Response:
    """Wake an expert now; others make room for it as soon as their calls are over."""
    return await _moved(request, "wake", expert_id)


@api.post("/{expert_id:path}/sleep")
async def sleep(request: Request, expert_id: str) -> Response:
    """Send an expert to sleep when its calls are over; it wakes when it is asked."""
    return await _moved(request, "sleep", expert_id)


@api.post("/{expert_id:path}/stop")
async def stop(request: Request, expert_id: str) -> Response:
    """End the engine of an expert when its calls are over; only `start` brings it back."""
    return await _moved(request, "stop", expert_id)


async def _moved(request: Request, do: Do, expert_id: str) -> Response:
    gateway = gateway_of(request)
    gateway.keyring.check_admin(request)
    line = gateway.lasting.line
    if expert_id not in gateway.pool.experts:
        raise ApiError(404, f"no expert is called {expert_id!r}", code="expert_not_found")
    if line is None or expert_id not in line.residents:
        message = f"{expert_id} runs on no engine of this gateway, so it can't {do}"
        raise ApiError(409, message, code="not_ours")
    try:
        # An adapter comes and goes by itself, but sleeps with its engine.
        alone = do in ("start", "stop")
        outcome = await line.command(
            do, expert_id if alone else line.residents.engine_of(expert_id)
        )
    except LineError as error:
        raise ApiError(503, str(error), code="engines_away") from error
    if outcome.fault:
        status = 409 if outcome.fault == "conflict" else 503
        raise ApiError(status, outcome.message, code=f"move_{outcome.fault}")
    engines = await line.shown()
    about = {"id": expert_id, "engine": _engine(gateway, expert_id, engines)}
    return json_answer(about)


def _engine(
    gateway: Gateway, expert_id: str, engines: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any] | None:
    line = gateway.lasting.line
    if line is None or expert_id not in line.residents:
        return None
    name = line.residents.engine_of(expert_id)
    shown = engines.get(name)
    if shown is None:
        return None
    state = shown["state"]
    takes = turns_memory(gateway.settings.experts, gateway.settings.residency)
    kept = ("status", "level", "restarts", "wakes", "last_error", "start_s", "sleep_s", "wake_s")
    return {
        "name": name,
        **{field: state[field] for field in kept},
        "tier": _TIERS[state["level"]],
        "memory_gb": takes.get(name),
        "calls": shown["calls"],
        "waiting": shown["waiting"],
        "load": shown["load"],
    }


def _about(
    gateway: Gateway, name: str, expert: Expert, engines: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
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
        "engine": _engine(gateway, name, engines),
    }


def _endpoints(expert: Expert) -> list[dict[str, Any]]:
    if not isinstance(expert, HttpExpert):
        return []
    return [
        {
            "url": each.url,
            "in_flight": each.load,
            "others": each.others,
            "waiting": each.waiting,
            "wait_s": round(each.wait_s, 3),
        }
        for each in expert.endpoints
    ]
