"""`POST /v1/messages` and `POST /v1/messages/count_tokens`: Anthropic's messages API."""

from __future__ import annotations

from collections.abc import Mapping

import anyio
import orjson
from fastapi import APIRouter, Request, Response

from experts.anthropic import AnthropicExpert
from experts.anthropic_turns import WIRE
from experts.errors import ExpertError, ExpertTimeoutError
from experts.messages import Completion, Usage
from gateway.access.keys import Key
from gateway.api.answering import failed, respond
from gateway.api.body import parse_body
from gateway.api.front import Envelope
from gateway.api.messages_in import parse_messages
from gateway.api.messages_out import MessageWriter, error_json, message_json
from gateway.ask import Ask
from gateway.errors import ApiError, GatewayError, api_error
from gateway.state import gateway_of, read_body
from routers.errors import RoutingError
from routers.features import estimate_tokens

api = APIRouter()


class MessagesFront:
    """Anthropic's messages."""

    wire = WIRE

    def parse(self, raw: bytes, headers: Mapping[str, str], key: Key) -> Ask:
        return parse_messages(parse_body(raw), headers, key)

    def whole(self, ask: Ask, envelope: Envelope, completion: Completion, usage: Usage) -> bytes:
        return message_json(envelope, completion, usage)

    def writer(self, ask: Ask, envelope: Envelope) -> MessageWriter:
        return MessageWriter(envelope)

    def error(self, failure: ApiError) -> bytes:
        return orjson.dumps(error_json(failure))


MESSAGES = MessagesFront()


@api.post("/v1/messages")
async def messages(request: Request) -> Response:
    """Answer a conversation, streamed or whole."""
    response = await respond(MESSAGES, request)
    decision_id = response.headers.get("x-pointsman-decision-id")
    if decision_id:
        # Where Anthropic's SDKs look for the name of a request.
        response.headers["request-id"] = decision_id
    return response


@api.post("/v1/messages/count_tokens")
async def count_tokens(request: Request) -> Response:
    """Tokens of a prompt, as the expert who would answer counts them; nothing is booked.

    An expert that can't count them is not asked; then it is our estimate, and a header says so.
    """
    try:
        return await _counted(request)
    except (GatewayError, ExpertError, RoutingError) as error:
        return failed(MESSAGES, api_error(error))


async def _counted(request: Request) -> Response:
    gateway = gateway_of(request)
    key = gateway.keyring.check(request)
    body = parse_body(await read_body(request))
    ask = parse_messages(body, request.headers, key, counting=True)
    decision = await gateway.decider.decide(ask)
    expert = gateway.pool.experts[decision.expert]
    headers = {"x-pointsman-expert": decision.expert}
    if isinstance(expert, AnthropicExpert):
        with anyio.move_on_after(gateway.settings.limits.first_token_s):
            count = await expert.count_tokens(ask.request)
            return _count(count, headers)
        raise ExpertTimeoutError(decision.expert, "did not count the tokens in time")
    said = "\n".join([ask.request.text, *_schemas(body)])
    return _count(round(estimate_tokens(said)), {**headers, "x-pointsman-estimated": "true"})


def _schemas(body: Mapping[str, object]) -> list[str]:
    """What else is read beside the conversation."""
    return [orjson.dumps(body["tools"]).decode()] if body.get("tools") else []


def _count(tokens: int, headers: Mapping[str, str]) -> Response:
    body = orjson.dumps({"input_tokens": tokens})
    return Response(body, headers=dict(headers), media_type="application/json")
