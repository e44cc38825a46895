"""`POST /v1/messages` and `POST /v1/messages/count_tokens`: Anthropic's messages API."""

from __future__ import annotations

from collections.abc import Mapping

import anyio
import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from experts.errors import ExpertNotFoundError, ExpertTimeoutError
from experts.http.anthropic import AnthropicExpert
from experts.messages import Completion, Usage
from experts.wire.anthropic_turns import WIRE
from gateway.access.keys import Key
from gateway.api.answering import off_the_loop, respond
from gateway.api.body import parse_body
from gateway.api.front import Envelope
from gateway.api.messages_in import parse_messages
from gateway.api.messages_out import MessageWriter, error_json, message_json
from gateway.api.routing import Routes
from gateway.ask import Ask
from gateway.errors import ApiError
from gateway.state import gateway_of, read_body
from routers.features import estimate_tokens

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
    ask = await gateway.service.screened(ask)
    decision = await gateway.decider.decide(ask)
    expert = gateway.pool.experts[decision.expert]
    headers = {"x-pointsman-expert": decision.expert}
    tokens = None
    if isinstance(expert, AnthropicExpert):
        tokens = await _asked(expert, ask, gateway.settings.limits.first_token_s)
    if tokens is None:
        said = "\n".join([ask.request.text, *_schemas(ask.body)])
        tokens = round(estimate_tokens(said))
        headers["x-pointsman-estimated"] = "true"
    body = orjson.dumps({"input_tokens": tokens})
    return Response(body, headers=headers, media_type="application/json")


async def _asked(expert: AnthropicExpert, ask: Ask, within_s: float) -> int | None:
    try:
        with anyio.fail_after(within_s):
            return await expert.count_tokens(ask.request)
    except ExpertNotFoundError:
        # Most servers that speak this wire but are not Anthropic's can't count.
        return None
    except TimeoutError as error:
        what = f"did not count the tokens within {within_s:g} s"
        raise ExpertTimeoutError(expert.card.expert_id, what) from error


def _schemas(body: Mapping[str, object]) -> list[str]:
    """What else is read beside the conversation."""
    return [orjson.dumps(body["tools"]).decode()] if body.get("tools") else []
