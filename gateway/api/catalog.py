"""`GET /v1/models`: every name that the endpoint answers to, in OpenAI's or Anthropic's shape."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from experts.cards import ExpertCard
from gateway.api.json_answer import json_answer
from gateway.api.messages import speaks_anthropic
from gateway.api.routing import Routes
from gateway.errors import ApiError
from gateway.state import Gateway, gateway_of

api = Routes()


@api.get("/v1/models")
async def list_models(request: Request) -> Response:
    """Routers, policies, experts and aliases that the key may use."""
    gateway = gateway_of(request)
    names = gateway.decider.names.open_to(gateway.keyring.check(request))
    data = [_model(gateway, name) for name in names]
    body: dict[str, Any] = {"object": "list", "data": data}
    if speaks_anthropic(request.scope):
        data = [_for_anthropic(gateway, model) for model in data]
        ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {}
        body = {"data": data, "has_more": False, **ends}
    return json_answer(body)


@api.get("/v1/models/{name:path}")
async def get_model(request: Request, name: str) -> Response:
    """One of them."""
    gateway = gateway_of(request)
    if name not in gateway.decider.names.open_to(gateway.keyring.check(request)):
        message = f"the model {name!r} does not exist"
        raise ApiError(404, message, code="model_not_found", param="model")
    model = _model(gateway, name)
    if speaks_anthropic(request.scope):
        model = _for_anthropic(gateway, model)
    return json_answer(model)


def _for_anthropic(gateway: Gateway, model: dict[str, Any]) -> dict[str, Any]:
    expert = model["pointsman"].get("expert")
    card = gateway.pool.card(expert) if expert else None
    released = card.released if card and len(card.released) == len("2026-01-31") else ""
    return {
        "type": "model",
        "id": model["id"],
        "display_name": model["id"],
        "created_at": f"{released or '1970-01-01'}T00:00:00Z",
        "lifecycle": "active",
        "max_input_tokens": card and card.context_tokens,
        "max_tokens": card and card.max_output_tokens,
        "pointsman": model["pointsman"],
    }


def _model(gateway: Gateway, name: str) -> dict[str, Any]:
    target = gateway.decider.names.resolve(name)
    common = {"id": name, "object": "model", "created": 0, "owned_by": "pointsman"}
    if target.expert is not None:
        return {
            **common,
            "pointsman": {"kind": "expert", **_card(gateway.pool.card(target.expert))},
        }
    router = gateway.serving.get(target.router or "")
    about = {"kind": "router", "router": router.name, "version": router.version}
    return {**common, "pointsman": {**about, "policy": target.policy}}


def _card(card: ExpertCard) -> dict[str, Any]:
    prices = card.prices
    return {
        "expert": card.expert_id,
        "description": card.description,
        "context_tokens": card.context_tokens,
        "api": card.api,
        "local": card.local,
        "location": card.location or None,
        "privacy": card.privacy,
        "tools": card.tools,
        "asks": [member.expert_id for member in card.members],
        "usd_per_mtok_input": prices and prices.input,
        "usd_per_mtok_output": prices and prices.output,
        "price_source": prices and prices.source,
    }
