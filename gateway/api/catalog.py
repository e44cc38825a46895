"""`GET /v1/models`: every name that the endpoint answers to, in OpenAI's or Anthropic's shape."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from experts.cards import ExpertCard
from gateway.api.body import fault
from gateway.api.json_answer import json_answer
from gateway.api.messages import speaks_anthropic
from gateway.api.paging import limit_of, place_of
from gateway.api.routing import Routes
from gateway.errors import ApiError
from gateway.state import Gateway, gateway_of

api = Routes()
_MOST_MODELS = 1000
"""On one page, as Anthropic has it."""


@api.get("/v1/models")
async def list_models(request: Request) -> Response:
    """Routers, policies, experts and aliases that the key may use."""
    gateway = gateway_of(request)
    names = gateway.decider.names.open_to(gateway.keyring.check(request))
    if speaks_anthropic(request.scope):
        names, more = _page(request, names)
        data = [_for_anthropic(gateway, _model(gateway, name)) for name in names]
        first, last = (names[0], names[-1]) if names else (None, None)
        return json_answer({"data": data, "has_more": more, "first_id": first, "last_id": last})
    return json_answer({"object": "list", "data": [_model(gateway, name) for name in names]})


def _page(request: Request, names: list[str]) -> tuple[list[str], bool]:
    """The names that Anthropic's `limit`, `after_id` and `before_id` ask for; are there more?

    Without a limit it is all of them: not every client asks for the rest.
    """
    limit = limit_of(request, _MOST_MODELS, _MOST_MODELS)
    after, before = (request.query_params.get(param) for param in ("after_id", "before_id"))
    if after and before:
        raise fault("before_id", "can't be said beside after_id")
    if before:
        names = names[: place_of(before, names, "before_id")]
        return names[-limit:], len(names) > limit
    if after:
        names = names[place_of(after, names, "after_id") + 1 :]
    return names[:limit], len(names) > limit


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
