"""`POST /v1/chat/completions` and `POST /v1/route`."""

from __future__ import annotations

from collections.abc import Mapping

import orjson
from starlette.requests import Request
from starlette.responses import Response

from experts.messages import Completion, Usage
from gateway.access.keys import Key
from gateway.api.answering import respond
from gateway.api.body import parse_body
from gateway.api.chat_in import parse_chat, wants_usage
from gateway.api.chat_out import ChunkWriter, completion_json
from gateway.api.front import Envelope
from gateway.api.route_out import route_json
from gateway.api.routing import Routes
from gateway.ask import Ask
from gateway.errors import ApiError
from gateway.state import gateway_of, read_body

api = Routes()


class ChatFront:
    """OpenAI's chat completions."""

    wire = "openai.chat"

    def parse(self, raw: bytes, headers: Mapping[str, str], key: Key) -> Ask:
        return parse_chat(parse_body(raw), headers, key)

    def whole(self, ask: Ask, envelope: Envelope, completion: Completion, usage: Usage) -> bytes:
        return completion_json(envelope, completion, usage)

    def writer(self, ask: Ask, envelope: Envelope) -> ChunkWriter:
        return ChunkWriter(envelope, include_usage=wants_usage(ask.body))

    def error(self, failure: ApiError, request_id: str) -> bytes:
        return orjson.dumps(failure.body())


CHAT = ChatFront()


@api.post("/v1/chat/completions")
async def chat_completions(request: Request) -> Response:
    """Answer a chat request, streamed or whole."""
    return await respond(CHAT, request)


@api.post("/v1/route")
async def route(request: Request) -> Response:
    """What would be decided for a chat body, and why; nobody is called, nothing is booked."""
    gateway = gateway_of(request)
    key = gateway.keyring.check(request)
    ask = CHAT.parse(await read_body(request), request.headers, key)
    ask = await gateway.service.screened(ask)
    decision = await gateway.decider.decide(ask)
    why = await gateway.decider.why(ask.request.text, decision)
    return Response(route_json(decision, why), media_type="application/json")
