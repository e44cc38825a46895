"""How a route is described in OpenAPI's words: its body, its answers, its refusals.

Bodies are not parsed by what stands here: who reads them names every fault by its field and lets
fields through that only an expert knows. A test holds the two together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

REF = "#/components/schemas/{model}"
SHAPES: dict[str, type[BaseModel]] = {}
"""Every shape that some description names, by its name."""

OPEN: tuple[int, ...] = (500,)
"""Refusals of a route that wants no key."""
KEYED: tuple[int, ...] = (401, 403, *OPEN, 503)
"""Of one that wants a key; 503 while keys can't be checked."""
READS: tuple[int, ...] = (400, *KEYED, 413, 415)
"""Of one that reads a body."""
ASKS: tuple[int, ...] = (*READS, 404, 429, 499, 502, 504)
"""Of one that asks an expert."""
ADMIN: tuple[int, ...] = (*KEYED, 404)
"""Of one for the operator, which a public listener does not have."""

_WHY = {
    400: "The body, a wish or a parameter is wrong, and named; or no expert can serve the request.",
    401: "No key, or one that is not known or has expired.",
    403: "The key may not do this, or the caller is not one that the operator's routes trust.",
    404: "There is no such model, decision, response, router or key.",
    409: "It was changed meanwhile, or there is nothing to go to.",
    413: "The body is longer than `limits.max_body_bytes`.",
    415: "The body is packed (`content-encoding`).",
    429: "A limit or a budget is reached, here or at the last provider that was asked.",
    499: "The client left before there was an answer; nobody gets to see this one.",
    500: "A fault of the gateway.",
    502: "Everybody who was asked failed.",
    503: "The ledger, the keys or the experts can't serve just now.",
    504: "Everybody who was asked was too slow.",
}
_STRING = {"schema": {"type": "string"}}
_REQUEST_ID = {
    "x-request-id": {"description": "Names the request in logs.", "required": True, **_STRING}
}
_RETRY_AFTER = {"retry-after": {"description": "Seconds to wait.", "required": True, **_STRING}}
_DECIDED = {
    "x-pointsman-decision-id": {
        "description": "For `/v1/decisions/{decision_id}` and `/v1/feedback`.",
        "required": True,
        **_STRING,
    },
    "x-pointsman-expert": {"description": "Who answered.", **_STRING},
    "x-pointsman-router": {"description": "Which router decided.", **_STRING},
    "x-pointsman-attempts": {"description": "Calls that were made.", **_STRING},
    "x-pointsman-cost-usd": {
        "description": "Dollars, or `unknown`; of a stream it is in the usage.",
        **_STRING,
    },
}


class Open(BaseModel):
    """An object that may have further fields: providers' own go through."""

    model_config = ConfigDict(extra="allow", defer_build=True)


class Fault(Open):
    """What was wrong, in OpenAI's words."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorJson(Open):
    """OpenAI's error body."""

    error: Fault


class AnthropicFault(Open):
    """What was wrong, in Anthropic's words with OpenAI's beside them."""

    type: str
    message: str
    param: str | None
    code: str | None


class AnthropicErrorJson(Open):
    """Anthropic's error body: under `/v1/messages`, and for who sends `anthropic-version`."""

    type: Literal["error"]
    error: AnthropicFault
    request_id: str


class Parameter(NamedTuple):
    """A query parameter."""

    name: str
    description: str
    schema: Mapping[str, Any]


class Text(NamedTuple):
    """A body or an answer that is no JSON."""

    media_type: str


Shape = type[BaseModel] | Text


def described(
    answer: Shape,
    refusals: Iterable[int] = KEYED,
    *,
    body: Shape | None = None,
    body_required: bool = True,
    status: int = 200,
    also: Mapping[int, type[BaseModel]] | None = None,
    asks: bool = False,
    streamed: type[BaseModel] | None = None,
    error: type[BaseModel] = ErrorJson,
    parameters: Iterable[Parameter] = (),
) -> dict[str, Any]:
    """What a route says of itself: an operation in OpenAPI's words.

    Args:
        answer: Of a request that is served.
        refusals: Statuses that it may answer otherwise.
        body: What it reads.
        body_required: Whether it must be there.
        status: Of a request that is served.
        also: Statuses with bodies of their own.
        asks: It asks an expert, so its answers carry a decision.
        streamed: The JSON of one event, where the answer may come as server-sent events.
        error: The body of a refusal.
        parameters: Of its query.
    """
    content = _content(answer) | (_events(streamed) if streamed else {})
    served = {
        "description": "Served.",
        "content": content,
        "headers": {**_REQUEST_ID, **(_DECIDED if asks else {})},
    }
    responses = {str(status): served}
    responses |= {str(code): _refusal(code, error) for code in sorted(refusals)}
    for code, shape in (also or {}).items():
        responses[str(code)] = {**_refusal(code, error), "content": _content(shape)}
    operation: dict[str, Any] = {
        "parameters": [_query(parameter) for parameter in parameters],
        "responses": responses,
    }
    if body is not None:
        operation["requestBody"] = {"required": body_required, "content": _content(body)}
    return operation


def _refusal(code: int, error: type[BaseModel]) -> dict[str, Any]:
    headers = {**_REQUEST_ID, **(_RETRY_AFTER if code == 429 else {})}
    return {"description": _WHY[code], "content": _content(error), "headers": headers}


def _content(shape: Shape) -> dict[str, Any]:
    if isinstance(shape, Text):
        return {shape.media_type: {"schema": {"type": "string"}}}
    return {"application/json": {"schema": _ref(shape)}}


def _events(shape: type[BaseModel]) -> dict[str, Any]:
    json = {
        "type": "string",
        "contentMediaType": "application/json",
        "contentSchema": _ref(shape),
    }
    data = {"anyOf": [{"description": "OpenAI's last word.", "const": "[DONE]"}, json]}
    event = {
        "type": "object",
        "required": ["data"],
        "properties": {"event": {"type": "string"}, "data": data},
    }
    return {"text/event-stream": {"schema": event}}


def _ref(shape: type[BaseModel]) -> dict[str, str]:
    SHAPES[shape.__name__] = shape
    return {"$ref": REF.format(model=shape.__name__)}


def _query(parameter: Parameter) -> dict[str, Any]:
    return {"in": "query", "required": False, **parameter._asdict()}
