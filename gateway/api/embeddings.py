"""`POST /v1/embeddings`: OpenAI's embeddings, from experts that make them."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
from starlette.requests import Request
from starlette.responses import Response

from experts.messages import ChatRequest, Completion, Usage
from gateway.access.keys import Key
from gateway.api.answering import respond
from gateway.api.body import fault, model_and_stream, parse_body, refuse_operator_fields
from gateway.api.completions_in import raw_inputs, spoken
from gateway.api.front import Envelope, Writer
from gateway.api.routing import Routes
from gateway.ask import Ask, parse_wishes
from gateway.errors import ApiError

api = Routes()
_OURS = ("model", "input", "stream", "pointsman")
_MOST_INPUTS = 2048
_FORMATS = ("float", "base64")


class EmbeddingsFront:
    """OpenAI's embeddings."""

    wire = "openai.embeddings"

    def parse(self, raw: bytes, headers: Mapping[str, str], key: Key) -> Ask:
        body = parse_body(raw)
        refuse_operator_fields(body)
        model, stream = model_and_stream(body)
        if stream:
            raise fault("stream", "embeddings are not streamed")
        params = {n: value for n, value in body.items() if n not in _OURS and value is not None}
        _check_params(params)
        inputs = raw_inputs(body.get("input"), "input", _MOST_INPUTS)
        if "" in inputs:
            raise fault(f"input[{inputs.index('')}]", "must not be empty")
        request = ChatRequest(spoken(inputs), params=params, task="embed", raw=inputs)
        wishes = parse_wishes(body.get("pointsman"), headers)
        return Ask(request, model, self.wire, key, wishes, body)

    def whole(self, ask: Ask, envelope: Envelope, completion: Completion, usage: Usage) -> bytes:
        packed = ask.request.params.get("encoding_format") == "base64"
        data = [
            {
                "object": "embedding",
                "index": index,
                "embedding": _as_wanted(choice.fields["embedding"], packed=packed),
            }
            for index, choice in enumerate(completion.choices)
        ]
        tokens = usage.prompt_tokens
        counted = {"prompt_tokens": tokens, "total_tokens": tokens}
        body = {"object": "list", "data": data, "model": envelope.expert, "usage": counted}
        return orjson.dumps({**completion.fields, **body})

    def writer(self, ask: Ask, envelope: Envelope) -> Writer:
        raise fault("stream", "embeddings are not streamed")

    def error(self, failure: ApiError, request_id: str) -> bytes:
        return orjson.dumps(failure.body())


EMBEDDINGS = EmbeddingsFront()


@api.post("/v1/embeddings")
async def embeddings(request: Request) -> Response:
    """Vectors of texts."""
    return await respond(EMBEDDINGS, request)


def _check_params(params: Mapping[str, Any]) -> None:
    if params.get("encoding_format", "float") not in _FORMATS:
        raise fault("encoding_format", "must be 'float' or 'base64'")
    dimensions = params.get("dimensions")
    whole = isinstance(dimensions, int) and not isinstance(dimensions, bool)
    if dimensions is not None and not (whole and dimensions >= 1):
        raise fault("dimensions", "must be a whole number of at least 1")


def _as_wanted(vector: str | list[float], *, packed: bool) -> str | list[float]:
    """Numbers or base64 of 32-bit floats, whichever the client asked for and the expert sent."""
    if packed and not isinstance(vector, str):
        return base64.b64encode(np.asarray(vector, dtype="<f4").tobytes()).decode()
    if not packed and isinstance(vector, str):
        numbers: list[float] = np.frombuffer(base64.b64decode(vector), dtype="<f4").tolist()
        return numbers
    return vector
