"""`POST /v1/chat/completions` and `POST /v1/route`: thin handlers around the service."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from fastapi import APIRouter, Request, Response

from experts.errors import ExpertError
from experts.messages import Usage, collect
from gateway.api.access import Key
from gateway.api.chat_in import parse_body, parse_chat, wants_usage
from gateway.api.chat_out import DONE, ChunkWriter, Envelope, completion_json, sse
from gateway.api.disconnect import ClientLeftError, EventStream, unless_disconnected
from gateway.api.route_out import route_json
from gateway.ask import Ask
from gateway.errors import GatewayError, api_error
from gateway.service import CLIENT_LEFT, Answer, Service
from gateway.state import gateway_of, read_body

api = APIRouter()


@api.post("/v1/chat/completions")
async def chat_completions(request: Request) -> Response:
    """Answer a chat request, streamed or whole."""
    gateway = gateway_of(request)
    key = gateway.keyring.check(request)
    body = parse_body(await read_body(request))
    ask = parse_chat(body, request.headers, key.name)
    debug = key.admin and request.headers.get("x-pointsman-debug") == "true"
    include_usage = wants_usage(body)
    try:
        if not ask.request.stream:
            return await unless_disconnected(request, lambda: _whole(gateway.service, ask, debug))
        answer = await unless_disconnected(request, lambda: gateway.service.answer(ask))
    except ClientLeftError:
        return Response(status_code=CLIENT_LEFT)
    return EventStream(_pieces(answer, include_usage), _headers(answer, debug), answer.aclose)


@api.post("/v1/route")
async def route(request: Request) -> Response:
    """What would be decided for a chat body, and why; nobody is called, nothing is booked."""
    gateway = gateway_of(request)
    key: Key = gateway.keyring.check(request)
    ask = parse_chat(parse_body(await read_body(request)), request.headers, key.name)
    return Response(route_json(await gateway.decider.decide(ask)), media_type="application/json")


async def _whole(service: Service, ask: Ask, debug: bool) -> Response:
    answer = await service.answer(ask)
    completion = await collect(answer.events())
    body = completion_json(_envelope(answer), completion, answer.booking.usage or Usage())
    headers = {**_headers(answer, debug), "x-pointsman-cost-usd": _cost_text(answer)}
    return Response(body, headers=headers, media_type="application/json")


async def _pieces(answer: Answer, include_usage: bool) -> AsyncGenerator[bytes, None]:
    """An answer as server-sent events; one that breaks ends in an error event, without [DONE]."""
    writer = ChunkWriter(_envelope(answer))
    try:
        async for event in answer.events():
            for chunk in writer.write(event):
                yield chunk
    except (GatewayError, ExpertError) as error:
        yield sse(api_error(error).body())
        return
    if include_usage:
        booking = answer.booking
        cost = booking.cost_usd if booking.cost_complete else None
        yield writer.usage(booking.usage or Usage(), cost)
    yield DONE


def _envelope(answer: Answer) -> Envelope:
    return Envelope(answer.booking.decision_id, answer.execution.answered_by or "")


def _headers(answer: Answer, debug: bool) -> dict[str, str]:
    decision = answer.decision
    headers = {
        "x-pointsman-decision-id": answer.booking.decision_id,
        "x-pointsman-expert": answer.execution.answered_by or "",
        "x-pointsman-router": decision.router,
        "x-pointsman-attempts": str(answer.booking.attempts),
    }
    if debug:
        headers["x-pointsman-version"] = decision.version
        headers["x-pointsman-policy"] = decision.policy
        headers["x-pointsman-propensity"] = f"{decision.propensity:.6g}"
        headers["x-pointsman-flags"] = ",".join(decision.flags)
    return headers


def _cost_text(answer: Answer) -> str:
    booking = answer.booking
    return f"{booking.cost_usd:.9f}" if booking.cost_complete else "unknown"
