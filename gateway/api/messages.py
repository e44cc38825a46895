"""`POST /v1/messages` and `POST /v1/messages/count_tokens`: Anthropic's messages API."""

from __future__ import annotations

from collections.abc import Mapping

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from experts.messages import Completion, Usage
from experts.wire.anthropic_turns import WIRE
from gateway.access.keys import Key
from gateway.api.answering import off_the_loop, respond
from gateway.api.body import parse_body
from gateway.api.counting import counted
from gateway.api.front import Envelope
from gateway.api.messages_in import parse_messages
from gateway.api.messages_out import MessageWriter, error_json, message_json
from gateway.api.routing import Routes
from gateway.ask import Ask
from gateway.errors import ApiError
from gateway.state import gateway_of, read_body

api = Routes()


def speaks_anthropic(scope: Scope) -> bool:
    """Whether errors must be in Anthropic's shape; its clients send their version everywhere."""
    path: str = scope["path"]
    return path.startswith("/v1/messages") or any(
        name == b"anthropic-version" for name, _ in scope["headers"]
    )


class MessagesFront:
    """Anthropic's messages."""

    wire = WIRE

    def parse(self, raw: bytes, headers: Mapping[str, str], key: Key) -> Ask:
        return parse_messages(parse_body(raw), headers, key)

    def whole(self, ask: Ask, envelope: Envelope, completion: Completion, usage: Usage) -> bytes:
        return message_json(envelope, completion, usage)

    def writer(self, ask: Ask, envelope: Envelope) -> MessageWriter:
        return MessageWriter(envelope)

    def error(self, failure: ApiError, request_id: str) -> bytes:
        decided = failure.headers.get("x-pointsman-decision-id")
        return orjson.dumps(error_json(failure, decided or request_id))


MESSAGES = MessagesFront()


@api.post("/v1/messages")
async def messages(request: Request) -> Response:
    """Answer a conversation, streamed or whole."""
    return await respond(MESSAGES, request)


@api.post("/v1/messages/count_tokens")
async def count_tokens(request: Request) -> Response:
    """Tokens of a prompt, as the expert who would answer counts them; nothing is booked.

    Where that expert can't count them it is our estimate, and a header says so.
    """
    gateway = gateway_of(request)
    key = gateway.keyring.check(request)
    raw = await read_body(request)
    ask = await off_the_loop(
        raw, lambda: parse_messages(parse_body(raw), request.headers, key, counting=True)
    )
    tokens, headers = await counted(gateway, ask)
    body = orjson.dumps({"input_tokens": tokens})
    return Response(body, headers=headers, media_type="application/json")
